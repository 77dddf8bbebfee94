# Rscript emmeans.R > numbers.json   (emmeans, lme4, lmerTest, pbkrtest, nlme, mvtnorm, jsonlite)
# Examples that emmeans documents, with the tables that they need (the CSV files beside this script):
#   pigs         emmeans::pigs, vignettes "basics", "comparisons", "transformations"
#   fiber        emmeans::fiber (Montgomery 2001), vignette "interactions", help pages of emtrends
#   warpbreaks   datasets::warpbreaks (Tippett 1950), help pages of emmeans, contrast and pairs
#   oats         nlme::Oats (Yates 1935), without rows 1, 2, 3, 5, 8, 13, 21, 34, 55 as in the
#                vignette "sophisticated"
#   oranges      emmeans::oranges (Littell, Stroup, Freund 2002), vignette "basics"
#   noise        emmeans::auto.noise, vignette "interactions"
#   nutrition    emmeans::nutrition (Milliken, Johnson 1984), vignette "messy-data"
# and the bundled Machines and Orthodont by lme4 with both methods of degrees of freedom.
suppressMessages({library(emmeans); library(lme4); library(lmerTest); library(jsonlite)})
args <- commandArgs(TRUE)
keep <- function(data, name) {
  if (length(args)) write.csv(data, paste0(name, ".csv"), row.names = FALSE, quote = FALSE)
  data
}
pigs <- keep(emmeans::pigs, "pigs")
fiber <- keep(emmeans::fiber, "fiber")
warpbreaks <- keep(datasets::warpbreaks, "warpbreaks")
oats <- keep(as.data.frame(nlme::Oats)[-c(1, 2, 3, 5, 8, 13, 21, 34, 55), ], "oats")
for (n in c("Block", "Variety")) oats[[n]] <- factor(as.character(oats[[n]]))
oranges <- keep(emmeans::oranges, "oranges")
noise <- keep(emmeans::auto.noise, "noise")
nutrition <- keep(emmeans::nutrition, "nutrition")
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14))
rows <- function(x, ...) as.data.frame(summary(x, infer = TRUE, ...))

out <- list(versions = list(R = R.version.string, emmeans = as.character(packageVersion("emmeans")),
                            lme4 = as.character(packageVersion("lme4")),
                            pbkrtest = as.character(packageVersion("pbkrtest")),
                            mvtnorm = as.character(packageVersion("mvtnorm")),
                            date = format(Sys.Date())))
pigs1 <- lm(log(conc) ~ source + factor(percent), pigs)
pigs2 <- lm(log(conc) ~ source + percent, pigs)
out$pigs_source <- rows(emmeans(pigs1, "source", type = "response"))
out$pigs_source_log <- rows(emmeans(pigs1, "source"))
out$pigs_source_covariate <- rows(emmeans(pigs2, "source"))
out$pigs_pairs <- rows(pairs(emmeans(pigs1, "source", type = "response")))
out$pigs_pairs_log <- rows(pairs(emmeans(pigs1, "source")))
out$pigs_percent_pairs_tukey <- rows(pairs(emmeans(pigs1, "percent")))
out$pigs_percent_pairs_holm <- rows(pairs(emmeans(pigs1, "percent")), adjust = "holm")
out$pigs_percent_reference <- rows(contrast(emmeans(pigs1, "percent"), "trt.vs.ctrl"), adjust = "mvt")
out$pigs_percent_custom <- rows(contrast(emmeans(pigs1, "percent"),
  list(lin = c(-3, -1, 1, 3), quad = c(-1, 1, 1, -1))))
pigs_sqrt <- lm(sqrt(conc) ~ source * factor(percent), pigs)
out$pigs_sqrt <- rows(emmeans(pigs_sqrt, ~ source | percent, type = "response"))
out$fiber_machine <- rows(emmeans(lm(strength ~ machine + diameter, fiber), "machine"))
out$fiber_pairs <- rows(pairs(emmeans(lm(strength ~ machine + diameter, fiber), "machine")))
fiber2 <- lm(strength ~ diameter * machine, fiber)
out$fiber_slopes <- rows(emtrends(fiber2, "machine", var = "diameter"))
out$fiber_slope_pairs <- rows(pairs(emtrends(fiber2, "machine", var = "diameter")))
warp <- lm(breaks ~ wool * tension, warpbreaks)
out$warp_cells <- rows(emmeans(warp, ~ tension | wool))
out$warp_pairs <- rows(pairs(emmeans(warp, ~ tension | wool)))
out$warp_reference <- rows(contrast(emmeans(warp, ~ tension | wool), "trt.vs.ctrl", ref = 1), adjust = "mvt")
out$warp_unbalanced <- rows(emmeans(lm(breaks ~ wool * tension, warpbreaks[-(1:7), ]), "tension"))
oats1 <- lmer(yield ~ Variety + factor(nitro) + (1 | Block/Variety), oats, control = tight)
for (m in c("kenward-roger", "satterthwaite")) {
  own <- if (m == "satterthwaite") update(oats1, REML = FALSE) else oats1
  out[[paste0("oats_nitro_", m)]] <- rows(emmeans(own, "nitro", lmer.df = m))
  out[[paste0("oats_variety_pairs_", m)]] <- rows(pairs(emmeans(own, "Variety", lmer.df = m)))
}
oats2 <- lmer(sqrt(yield) ~ Variety * nitro + (1 | Block/Variety), oats, control = tight)
out$oats_slopes <- rows(emtrends(oats2, "Variety", var = "nitro"))
out$oats_sqrt <- rows(emmeans(oats2, ~ Variety | nitro, at = list(nitro = c(0, 0.3)), type = "response"))
oranges1 <- lm(sales1 ~ price1 + price2 + day + store, oranges)
out$oranges_day <- rows(emmeans(oranges1, "day"))
out$oranges_price <- rows(emmeans(oranges1, "price1", at = list(price1 = c(40, 60), price2 = 50)))
noise1 <- lm(noise ~ size * type * side, noise)
out$noise <- rows(emmeans(noise1, ~ size | type))
out$noise_pairs <- rows(pairs(emmeans(noise1, ~ type | size * side)))
nutrition1 <- lm(gain ~ (age + group + race)^2, nutrition)
out$nutrition_cells <- rows(emmeans(nutrition1, ~ race | group * age))
out$nutrition_race <- rows(emmeans(nutrition1, ~ race))
out$nutrition_group_pairs <- rows(pairs(emmeans(nutrition1, ~ group | race)))
nested <- read.csv("../estimable/rows.csv", stringsAsFactors = TRUE)
out$nested <- rows(emmeans(lmer(y ~ site/plot + (1 | g), nested, control = tight), "site"))
Machines <- read.csv("../../../hierpool/datasets/tables/Machines.csv")
machines <- lmer(score ~ Machine + (Machine | Worker), Machines, control = tight)
out$machines_pairs <- rows(pairs(emmeans(machines, "Machine")))
cat(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = FALSE, na = "null"), "\n")
