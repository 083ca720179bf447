"""The prose of the report, apart from what computes it."""

from __future__ import annotations

from typing import Final

UNREACHED: Final = (
    "A mark in the strip at the top is a run that did not get there: a hollow one went on learning to "
    "the end of its rounds, a cross diverged. A line is the mean of the runs that did reach the target."
)

HIDDEN_UNITS: Final = (
    "Rounds until the test accuracy is 85 %, and 95 % of centralised training's, by the size of the "
    "hidden layer, with and without a language model's features, for sites that have few classes in "
    "common (Dirichlet 0.1) or more (0.5)."
)

LEARNING_RATE: Final = "Processor seconds of all sites and the centre, and rounds, by learning rate."

COSTS: Final = (
    "What one round costs. Bytes are what one party sends, seconds what it computes; sites work at the "
    "same time. Shades are logarithmic."
)

MIGRATION: Final = (
    "Accuracy on each cloud's own test rows of the common model, of a model trained on the cloud's rows "
    "alone, and of the common model adapted to the cloud. A late cloud took no part in training, and "
    "its texts were changed on the way."
)

PROTECTION: Final = (
    "Protection is 1 − the advantage of the strongest attack; bands are 95 % over seeds; methods "
    "without an ε are level lines. Protection falls as ε grows: ε bounds what a release may tell of one "
    "example, so more ε is less noise, and less noise cannot hide more. A figure in which protection "
    "rises with ε, as the paper's does, cannot be read otherwise: either its axis runs from little to "
    "much noise, which is falling ε, or what it shows was not measured by attacks."
)

ATTACKS: Final = (
    "An attack is chosen on one half of what is scored, and its advantage 2·AUC − 1 is measured on the "
    "other half; both ways, averaged. Protection is 1 less the advantage of the attack so chosen among "
    "all attacks, variants and views (aggregator, another participant, released model). Example-level "
    "attacks are canaries, likelihood-ratio and inversion: what an ε for examples speaks about. All "
    "attacks adds class presence, a property of a site that no such ε bounds. Likelihood-ratio attacks "
    "need many shadow models and are made at some ε only: the table of attacks says where."
)

LABEL_ERROR: Final = (
    "Label distribution of a site: total variation distance between what is inferred and the truth, by "
    "view; “guess” is that of guessing the population's. Lower is more leaked."
)

REIDENTIFIED: Final = (
    "Inversion of a small batch's update: share of its rows whose nearest candidate is the row itself, "
    "by view."
)

BANDS: Final = (
    "Numbers are mean ± half of the 95 % band over seeds (Student's t); a number alone is of one seed."
)

JUDGED: Final = (
    "Methods are compared by the differences between them with the same seed. A claim does not hold "
    "where the whole band of the mean difference contradicts it; where the band holds 0 the two are a "
    "tie; else it holds."
)

PLANS: Final = (
    "Plans, chosen on validation rows taken from the training rows; test rows choose nothing. SMC-FL and "
    "HE-FL train as FedAvg does and share its plans."
)
