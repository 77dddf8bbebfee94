# Rscript families.R > families.json   (emmeans, lme4, jsonlite; R 4.2.2)
# cbpp.csv: contagious bovine pleuropneumonia, lme4::cbpp (GPL; Lesnoff and others 2004, Preventive
# Veterinary Medicine 64, 131-145). Odds ratios and probabilities of an average herd by emmeans, risk
# differences by regrid(), probabilities of a new herd by integrate().
suppressMessages({library(emmeans); library(lme4); library(jsonlite)})
if (length(commandArgs(TRUE))) write.csv(lme4::cbpp, "cbpp.csv", row.names = FALSE, quote = FALSE)
m <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), lme4::cbpp, binomial, nAGQ = 25)
rows <- function(x, ...) as.data.frame(summary(x, infer = TRUE, ...))
e <- emmeans(m, "period", type = "response")
s <- sqrt(unlist(VarCorr(m))); b <- fixef(m); eta <- b[1] + c(0, b[-1])
new <- sapply(eta, function(v)
  integrate(function(z) plogis(v + s * z) * dnorm(z), -10, 10, rel.tol = 1e-10)$value)
out <- list(versions = list(R = R.version.string, emmeans = as.character(packageVersion("emmeans")),
                            lme4 = as.character(packageVersion("lme4")), date = format(Sys.Date())),
            average = rows(e), odds = rows(contrast(e, "pairwise")),
            differences = rows(contrast(regrid(emmeans(m, "period")), "trt.vs.ctrl", adjust = "none")),
            new = unname(new))
cat(toJSON(out, digits = 9, auto_unbox = TRUE, pretty = TRUE), "\n")
