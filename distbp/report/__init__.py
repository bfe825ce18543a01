"""Reports as pages, of runs and of studies, in these languages; ``python -m distbp.report RUN`` makes one anew."""

LANGUAGES = "en", "es"
