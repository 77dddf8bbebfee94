# Rscript estimable.R < rows.csv > numbers.json   (lme4, lmerTest, emmeans, pbkrtest, jsonlite)
# What lme4 and emmeans say where columns are not estimable: an empty cell of a * b (a3, b2), a
# predictor that repeats another, plots that are nested in sites.
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(jsonlite)})
d <- read.csv(file("stdin"), stringsAsFactors = TRUE)
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14))
numbers <- function(formula, ...) {
  suppressMessages(fit <- lmer(formula, d, control = tight))
  grids <- list(...)
  tests <- as.data.frame(joint_tests(fit))
  tests <- tests[trimws(tests[["model term"]]) != "(confounded)", ]
  pair <- function(by) as.data.frame(pairs(emmeans(fit, by), adjust = "none"))
  means <- function(by) as.data.frame(emmeans(fit, by))
  list(loglik = as.numeric(logLik(fit)), terms = names(fixef(fit)), beta = unname(fixef(fit)),
       joint_tests = tests[c("model term", "df1", "df2", "F.ratio", "p.value")],
       pairs = lapply(grids, pair), means = lapply(grids, means))
}
out <- list(
  versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                  emmeans = as.character(packageVersion("emmeans")), date = format(Sys.Date())),
  empty_cell = numbers(y ~ a * b + x + (1 | g), ~ a, ~ b, ~ a * b),
  collinear = numbers(y ~ a + x + twice + (1 | g), ~ a),
  nested = numbers(y ~ site/plot + (1 | g), ~ site))
cat(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = 1, na = "null"), "\n")
