"""A file of two experiments at two scales, that asks for everything a study can ask for, and trains in seconds."""

MINI = """
name = "mini"
title = "A small paper"
citation = "Someone (2020)"
[values]
small = 20
large = 60
[run]
data = { name = "digits", train_samples = 200, test_samples = 100 }
model = { name = "mlp", options = { hidden = [12], batch_norm = "hidden" } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = "$small"
stop = { epochs = 5 }
[grid]
seed = [0, 1]
[scales.smoke]
run.stop.epochs = 4
note = "Four epochs."
[scales.laptop]
values.large = 40
[[measures]]
measure = "lambda_max"
[[experiments]]
id = "fig1"
title = "First"
covers = ["fig2"]
[experiments.grid]
batch_size = ["$small", "$large"]
optimizer.lr = [0.05, 0.2]
[[experiments.tracks]]
measure = "lambda_max"
every = 2
samples = 100
where = { lr = 0.2 }
[[experiments.landscapes]]
name = "line"
a = { batch_size = "$small", lr = 0.05 }
b = { batch_size = "$large", lr = 0.05 }
alphas = { points = 4 }
[[experiments.surfaces]]
name = "plane"
of = { seed = 0, batch_size = "$small", lr = 0.2 }
points = 3
[[experiments.audits]]
name = "rescaled"
of = { seed = 0, lr = 0.2 }
measures = [{ measure = "worst_case", batch_size = "none" }, "gradient_norm"]
[[experiments.histograms]]
name = "first"
of = { seed = 0, lr = 0.2 }
parameter = "first"
bins = 7
[[experiments.figures]]
id = "fig1"
title = "λ_max and test accuracy against the rate, with the line 2/η"
x = "lr"
y = ["lambda_max", "test_accuracy"]
x_scale = "log"
y_scale = "log"
colour = "batch_size"
line = "2/lr"
[[experiments.figures]]
id = "fig2"
x = "lambda_max"
y = "test_loss"
x_scale = "log"
colour = "lr/batch_size"
[[experiments.figures]]
id = "curves"
table = "history"
x = "epoch"
y = "log10(train_loss)"
colour = "lr"
panel = "batch_size"
[[experiments.figures]]
id = "followed"
table = "tracks"
x = "epoch"
y = "lambda_max"
y_scale = "log"
colour = "batch_size"
line = "2/lr"
[[experiments.figures]]
id = "line"
table = "landscapes"
x = "alpha"
y = ["loss", "accuracy"]
colour = "seed"
panel = "landscape"
[[experiments.figures]]
id = "plane"
table = "surfaces"
x = "x"
y = "y"
[[experiments.figures]]
id = "weights"
table = "histograms"
x = "low"
y = "count"
y_scale = "log"
colour = "batch_size"
[[experiments.claims]]
id = "X1"
statement = "λ_max falls with the rate."
kind = "trend"
x = "lr"
y = "lambda_max"
direction = "falling"
within = ["batch_size"]
[[experiments.claims]]
id = "X2"
statement = "The measure is unchanged by rescalings."
kind = "invariance"
y = "rescaled_worst_case_change"
[[experiments.claims]]
id = "X3"
statement = "Small batches end in wider basins."
kind = "basin_width"
a = { batch_size = "$small" }
b = { batch_size = "$large" }
direction = "wider"
[[experiments.claims]]
id = "X4"
statement = "Throughout training λ_max is larger at the small batch."
kind = "trend"
source = "tracks"
x = "batch_size"
y = "lambda_max"
direction = "falling"
within = ["epoch"]
[[experiments]]
id = "fig3"
measures = ["between_iterates", "weight_kurtosis"]
[experiments.grid]
optimizer.lr = [0.05]
"""
