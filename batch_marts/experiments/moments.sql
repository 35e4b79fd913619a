-- One row for each experiment, variation and metric of `subjects`, the rows of subjects.sql.
select
    experiment_id,
    variation_id,
    metric_name,
    count(*) as persons,
    avg(value) as mean,
    var_samp(value) as variance,
    avg(earlier_value) as earlier_mean,
    var_samp(earlier_value) as earlier_variance,
    covar_samp(value, earlier_value) as covariance,
    min(exposed_at) as first_exposed_at,
    max(exposed_at) as last_exposed_at
from subjects
group by experiment_id, variation_id, metric_name
