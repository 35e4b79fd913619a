"""The marts: a dbt project over the stream's tables, the ad platforms' exports and the experiments, and its refresh.

`models`, `macros`, `seeds` and `tests` are the project; `refresh` builds, tests and publishes it; `metrics` gives each
metric its one meaning.
"""
