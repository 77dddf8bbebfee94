"""What hp.study, hp.check and hp.advise do."""
