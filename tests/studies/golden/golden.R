# python -m tests.studies.golden.record --tables FOLDER     the tables as CSV
# Rscript golden.R FOLDER [KIND ...]                        writes KIND.json beside this script
#
# The recommended model of each golden report by lme4 (of known standard errors by metafor, REML), and
# the tests of its terms: the hypotheses of joint_tests() of emmeans, tested by lmerTest and pbkrtest, with
# Kenward and Roger's method or Satterthwaite's as hierpool does. (joint_tests() itself rounds, and has
# other degrees of freedom for several coefficients.) A recommendation that changes takes another formula here.
suppressMessages({library(emmeans); library(lme4); library(lmerTest); library(metafor); library(jsonlite)})
args <- commandArgs(TRUE)
folder <- args[1]
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(FALSE), value = TRUE)))
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, maxeval = 1e5))
emm_options(pbkrtest.limit = 1e5, lmerTest.limit = 1e5)
read <- function(kind, ...) {
  table <- read.csv(file.path(folder, paste0(kind, ".csv")), na.strings = "")
  for (name in c(...)) table[[name]] <- factor(table[[name]], unique(na.omit(table[[name]])))
  table
}
version <- function(p) as.character(packageVersion(p))
save <- function(kind, call, df, fixed, se, sds, sigma, terms) {
  made <- paste0("R ", getRversion(), ", lme4 ", version("lme4"), ", lmerTest ", version("lmerTest"),
                 ", pbkrtest ", version("pbkrtest"), ", emmeans ", version("emmeans"),
                 ", metafor ", version("metafor"), ", ", Sys.Date())
  out <- list(made = made, call = call, df_method = df, fixed = fixed, se = se, sds = sds,
              sigma = sigma, terms = terms)
  writeLines(toJSON(out, digits = 10, auto_unbox = TRUE, pretty = 2, na = "null"),
             file.path(here, paste0(kind, ".json")))
}
by_lme4 <- function(kind, call, df = "Kenward-Roger") {
  if (length(args) > 1 && !kind %in% args[-1]) return(invisible())
  fit <- eval(call)
  emm_options(lmer.df = tolower(df))
  tests <- NULL
  if (length(fixef(fit)) > 1) {
    joint <- joint_tests(fit)
    tests <- do.call(rbind, lapply(attr(joint, "est.fcns"), function(L) {
      contestMD(fit, L, ddf = df)[c("NumDF", "DenDF", "F value", "Pr(>F)")]
    }))
    names(tests) <- c("df1", "df2", "F", "p")
    rownames(tests) <- NULL
    tests <- cbind(term = names(attr(joint, "est.fcns")), tests)
  }
  sds <- as.data.frame(VarCorr(fit))
  sds <- sds[sds$grp != "Residual", c("grp", "var1", "var2", "sdcor")]
  save(kind, gsub(" +", " ", paste(deparse(call), collapse = " ")), df, as.list(fixef(fit)),
       as.list(sqrt(diag(as.matrix(vcov(fit))))), sds, sigma(fit), tests)
}
by_metafor <- function(kind, response) {
  if (length(args) > 1 && !kind %in% args[-1]) return(invisible())
  table <- read(kind)
  fit <- rma(table[[response]], sei = table$se, method = "REML", control = list(threshold = 1e-12, maxiter = 1e4))
  call <- paste0("rma(", response, ", sei = se, method = \"REML\")")
  save(kind, call, "", list("(Intercept)" = fit$beta[[1]]), list("(Intercept)" = fit$se),
       data.frame(grp = "all", var1 = "(Intercept)", sdcor = sqrt(fit$tau2)), NULL, NULL)
}

by_lme4("repeated_measures", quote(lmer(Reaction ~ Days + (Days || Subject), read("repeated_measures"), control = tight)))
by_lme4("treatment_by_time", quote(lmer(weight ~ Time * Diet + (Time | Chick), read("treatment_by_time", "Diet"), control = tight)))
by_lme4("block", quote(lmer(harvest ~ fertiliser + (1 | field), read("block", "fertiliser"), control = tight)))
by_lme4("split_plot", quote(lmer(yield ~ Variety * nitro + (1 | Block) + (1 | Block:Variety), transform(read("split_plot"), Variety = factor(Variety)), control = tight)))
by_lme4("nested", quote(lmer(strength ~ 1 + (1 | batch) + (1 | sample), read("nested"), control = tight)))
by_lme4("crossed", quote(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), read("crossed"), control = tight)))
centred <- function(table, name) { table[[name]] <- table[[name]] - mean(table[[name]]); table }
by_lme4("many_groups", quote(lmer(sales ~ price + (price || shop), centred(read("many_groups"), "price"), control = tight)))
by_lme4("few_groups", quote(lmer(milk ~ feed + (1 | farm), read("few_groups", "feed"), control = tight)))
by_lme4("counts", quote(lmer(falls ~ nurses + (nurses | ward), read("counts"), control = tight)))
by_lme4("binary", quote(lmer(passed ~ hours + (1 | school), read("binary"), control = tight)))
by_lme4("missing_values", quote(lmer(pain ~ week * arm + (week || patient), centred(na.omit(read("missing_values", "arm")), "week"), control = tight)))
# pbkrtest 0.5.2 takes every weight for 1; in one coefficient the methods differ little
by_lme4("weights", quote(lmer(oxygen ~ depth + (depth || lake), read("weights"), weights = samples, control = tight)), "Satterthwaite")
by_metafor("meta_analysis", "effect")
by_metafor("one_row_a_group", "average")
# Kenward and Roger's method takes gigabytes in pbkrtest for so many rows; on so many df both agree
by_lme4("huge", quote(lmer(minutes ~ distance + (distance || depot), centred(read("huge"), "distance"), control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10)))), "Satterthwaite")
