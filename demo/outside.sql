-- Flights in a bucket of S3 and airlines in PostgreSQL: joined, and loaded back.
-- @S3@ and @POSTGRES@ stand for the addresses of the servers; demo/outside.sh fills them in.

CREATE SECRET lake OPTIONS (aws.endpoint '@S3@', aws.allow_http true, aws.region 'eu-central-1', aws.access_key_id 'demo', aws.secret_access_key 'demo');

CREATE EXTERNAL TABLE flights STORED AS PARQUET LOCATION 's3://lake/flights/' OPTIONS (secret 'lake');
CREATE CATALOG shop STORED AS POSTGRES LOCATION '@POSTGRES@';

-- The executors read both, and load the result in parallel: all of it or nothing. The table is made from the rows.
COPY (
    SELECT a.name AS airline, f.month, count(*) AS flights, round(avg(f.arr_delay), 1) AS mean_delay,
           count(*) FILTER (WHERE f.arr_delay IS NULL) AS never_arrived
    FROM flights f
    JOIN shop.public.airlines a ON a.carrier = f.carrier
    GROUP BY a.name, f.month
) TO '@POSTGRES@' STORED AS POSTGRES OPTIONS (table 'delays', mode 'merge', key 'airline, month');

-- What PostgreSQL has now: it computes this itself.
SELECT airline, sum(flights) AS flights, max(mean_delay) AS worst_month FROM shop.public.delays GROUP BY airline ORDER BY worst_month DESC LIMIT 5;
