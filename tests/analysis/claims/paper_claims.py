"""Every claim of the five papers as data: id → the experiment whose tables it is about, and the claim."""


def trend(y, x, direction, **keys):
    return {"kind": "trend", "x": x, "y": y, "direction": direction, **keys}


def both(*parts, **keys):
    return {"kind": "all", "claims": list(parts), **keys}


SMALL, LARGE = {"batch_size": 100}, {"batch_size": 5000}
SGD, ADAGRAD = {"optimizer": "sgd"}, {"optimizer": "adagrad"}
SAM_SGD = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
ASAM_SAM = {"a": {"optimizer": "asam"}, "b": {"optimizer": "sam"}}
WITH_NORM, WITHOUT_NORM = {"batch_norm": True}, {"batch_norm": False}
FALLS, RISES = "falling", "rising"

ACCURACY_RISES_WITH_RATE = trend("test_accuracy", "lr", RISES, where=SMALL)
SHARPNESS_FALLS_WITH_RATE = trend("lambda_max", "lr", FALLS, where=SMALL)
NEAR_TWO_OVER_LR = both(
    trend("lambda_max", "lr", FALLS),
    {"kind": "curve", "x": "lr", "y": "lambda_max", "curve": "2/lr", "tolerance": 0.3},
    where=LARGE,
)
STOPS_RISING = {
    "kind": "optimum",
    "x": "lr",
    "y": "test_accuracy",
    "then": "stops",
    "margin": 0.01,
    "where": LARGE,
}
SIMILAR_ACCURACY = {
    "kind": "flat",
    "x": "lr",
    "y": "test_accuracy",
    "margin": 0.02,
    "relative": False,
    "within": ["batch_size/lr"],
}
FLATTER_AT_EQUAL_ALPHA = trend("lambda_max", "lr", FALLS, within=["batch_size/lr"])
SAM_SMALL = both(
    trend("test_accuracy", "rho", RISES, within=["lr"]),
    trend("lambda_max", "rho", FALLS, within=["lr"]),
    where=SMALL,
)
SAM_LARGE = both(
    trend("lambda_max", "rho", FALLS, within=["lr"]),
    {
        "kind": "flat",
        "x": "rho",
        "y": "test_accuracy",
        "margin": 0.01,
        "relative": False,
        "side": "not_rising",
        "within": ["lr"],
    },
    where=LARGE,
)

CLAIMS = {
    "P1": ("patriarca", trend("sharpness", "batch_size", FALLS, where=SGD | {"lr": 1e-4})),
    "P2": (
        "patriarca",
        {"kind": "flat", "x": "batch_size", "y": "sharpness", "margin": 0.5, "where": ADAGRAD | {"lr": 1e-4}},
    ),
    "P3": (
        "patriarca",
        {"kind": "crossing", "x": "batch_size", "y": "sharpness", "a": SGD, "b": ADAGRAD, "low": "greater"}
        | {"where": {"lr": 1e-4}},
    ),
    "P4": (
        "patriarca",
        both(
            trend("sharpness", "lr", FALLS, where=SGD),
            trend("sharpness", "lr", FALLS, where=ADAGRAD),
            where={"batch_size": 128},
        ),
    ),
    "P5": (
        "patriarca",
        {"kind": "paired", "y": "sharpness", "a": SGD, "b": ADAGRAD, "match": ["seed", "lr"]}
        | {"ratio": {"min": 0.7, "max": 1.4}, "where": {"batch_size": 128, "lr": {"min": 5e-2}}},
    ),
    "J1": ("jastrzebski", trend("lambda_max", "lr/batch_size", FALLS)),
    "J2": ("jastrzebski", trend("log(frobenius)", "lr/batch_size", FALLS)),
    "J3": ("jastrzebski", trend("validation_accuracy", "lr/batch_size", RISES)),
    "J4": (
        "landscapes",
        both(
            *(
                {"kind": "basin_width", "a": {"rule": "baseline"}, "b": {"rule": rule}, "direction": "wider"}
                for rule in ("large batch", "small rate")
            )
        ),
    ),
    "J5": (
        "landscapes",
        both(
            *(
                {"kind": "basin_width", "a": {"rule": "beta 1"}, "b": {"rule": rule}}
                | {"ratio": {"min": 0.67, "max": 1.5}}
                for rule in ("beta 4", "beta 0.25")
            )
        ),
    ),
    "J6": (
        "landscapes",
        {"kind": "curve_distance", "y": ["train_accuracy", "validation_accuracy"]}
        | {"baseline": {"rule": "baseline"}, "a": {"rule": "linear"}, "b": {"rule": "root"}},
    ),
    "K1": ("kaur", ACCURACY_RISES_WITH_RATE),
    "K2": ("kaur", SHARPNESS_FALLS_WITH_RATE),
    "K3": ("kaur", NEAR_TWO_OVER_LR),
    "K4": ("kaur", STOPS_RISING),
    "K5": (
        "kaur",
        {"kind": "matched", "y": "test_accuracy", "match_on": "lambda_max", "a": SMALL, "b": LARGE}
        | {"direction": "greater"},
    ),
    "K6": (
        "kaur",
        both(
            {"kind": "interaction", "x": "lr", "y": "test_accuracy", "by": "batch_size", "direction": FALLS},
            trend("lambda_max", "lr", FALLS, within=["batch_size"]),
        ),
    ),
    "K7": ("alpha", both(SIMILAR_ACCURACY, FLATTER_AT_EQUAL_ALPHA)),
    "K8": (
        "alpha",
        both(
            {**SIMILAR_ACCURACY, "source": "history", "within": ["epoch", "batch_size/lr"]},
            trend("lambda_max", "lr", FALLS, source="tracks", within=["epoch", "batch_size/lr"]),
        ),
    ),
    "K9": ("sam", SAM_SMALL),
    "K10": ("sam", SAM_LARGE),
    "K11": (
        "dropout",
        both(
            trend("lambda_max", "dropout", FALLS, within=["lr", "batch_size"]),
            {"kind": "optimum", "x": "dropout", "y": "test_accuracy", "where_peak": [0.1, 0.3]}
            | {"within": ["lr", "batch_size"]},
        ),
    ),
    "K12": (
        "norms",
        both(
            {"kind": "paired", "y": "lambda_max", "a": WITH_NORM, "b": WITHOUT_NORM, "match": ["seed", "lr"]}
            | {"ratio": {"min": 0.67, "max": 1.5}},
            {
                "kind": "crossing",
                "x": "lr",
                "y": "test_accuracy",
                "a": WITH_NORM,
                "b": WITHOUT_NORM,
                "low": "less",
            },
        ),
    ),
    "K13": (
        "sam",
        both(SAM_SMALL["claims"][0] | {"where": SMALL}, SAM_LARGE["claims"][1] | {"where": LARGE}),
    ),
    "K14": (
        "sam",
        both(
            *(
                {"kind": "paired", "y": "val", "a": {"rho": 0.2}, "b": {"rho": 0.0}, "match": ["seed", "lr"]}
                | {"direction": "greater", "where": size}
                for size in (SMALL, LARGE)
            )
        ),
    ),
    "K15": ("kaur", both(ACCURACY_RISES_WITH_RATE, SHARPNESS_FALLS_WITH_RATE, STOPS_RISING)),
    "K16": ("kaur", {"kind": "bound", "low_side": "reached", "high_side": "promised"}),
    "H0": ("hammoud", {"kind": "invariance", "y": "change"}),
    "H1": ("hammoud", {"kind": "correlation", "x": "as_written", "y": "test_loss", "sign": -1}),
    "H2": ("hammoud", {"kind": "correlation", "x": "as_written", "y": "test_loss", "sign": -1}),
    "H3": ("hammoud", {"kind": "correlation", "x": "as_written", "y": "test_loss", "sign": -1}),
    "C1": (
        "coldenhoff",
        {"kind": "paired", "y": "test_accuracy", "direction": "greater", "every": True}
        | {"where": {"batch_size": 128}, **SAM_SGD},
    ),
    "C2": (
        "coldenhoff",
        {"kind": "paired", "y": "test_accuracy", "direction": "greater", "a_epoch": 0.5, "b_epoch": 1.0}
        | {"where": {"batch_size": 128}, **SAM_SGD},
    ),
    "C3": ("coldenhoff", trend("test_accuracy", "batch_size", FALLS, within=["optimizer"])),
    "C4": (
        "coldenhoff",
        both(
            {
                "kind": "variance_ratio",
                "y": "test_accuracy",
                "direction": "less",
                "within": ["batch_size"],
                **SAM_SGD,
            },
            {
                "kind": "variance_ratio",
                "y": "test_accuracy",
                "direction": "less",
                "within": ["batch_size"],
                **SAM_SGD,
            }
            | {"most_at": {"batch_size": [64, 128]}},
        ),
    ),
    "C5": (
        "coldenhoff",
        {"kind": "paired", "y": "test_accuracy", "match": ["seed", "batch_size"], **SAM_SGD}
        | {"difference": {"min": 0.05, "max": 0.1}},
    ),
    "C6": (
        "asam",
        both(
            {"kind": "paired", "y": "test_accuracy", "difference": {"min": -0.02}, **ASAM_SAM},
            {"kind": "paired", "y": "train_loss", "ratio": {"min": 2.0}, **ASAM_SAM},
        ),
    ),
    "C7": (
        "tails",
        {"kind": "paired", "y": "kurtosis", "a": WITHOUT_NORM, "b": WITH_NORM}
        | {"match": ["seed", "optimizer"], "direction": "greater"},
    ),
}
