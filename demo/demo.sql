-- What made the flights out of New York late in 2013?
-- @DATA@ and @OUT@ stand for folders; demo/run.sh fills them in.

-- Read: five tables of Parquet, the flights in one file for each month.
CREATE EXTERNAL TABLE flights  STORED AS PARQUET LOCATION '@DATA@/flights/';
CREATE EXTERNAL TABLE airlines STORED AS PARQUET LOCATION '@DATA@/airlines.parquet';
CREATE EXTERNAL TABLE airports STORED AS PARQUET LOCATION '@DATA@/airports.parquet';
CREATE EXTERNAL TABLE planes   STORED AS PARQUET LOCATION '@DATA@/planes.parquet';
CREATE EXTERNAL TABLE weather  STORED AS PARQUET LOCATION '@DATA@/weather.parquet';

-- Clean: a flight without a departure time was cancelled, one without an arrival delay was diverted; gaps in the weather stay unknown.
CREATE VIEW flown AS
SELECT month, day, time_hour, carrier, flight, tailnum, origin, dest, distance, sched_dep_time, dep_delay, arr_delay, air_time
FROM flights
WHERE dep_time IS NOT NULL AND arr_delay IS NOT NULL;

CREATE VIEW sky AS
SELECT origin, time_hour, temp, wind_speed, precip, visib,
       CASE WHEN visib < 2                     THEN 'fog'
            WHEN precip > 0 AND temp <= 34     THEN 'snow or ice'
            WHEN precip >= 0.1                 THEN 'heavy rain'
            WHEN precip > 0                    THEN 'rain'
            WHEN wind_speed >= 25              THEN 'strong wind'
            ELSE 'fair' END AS sky
FROM weather;

-- Join, look back along each aircraft's day, and write one folder for each month.
COPY (
    SELECT f.month, f.day, a.name AS airline, f.flight, f.tailnum, f.origin, f.dest, d.name AS destination, p.manufacturer,
           2013 - p.year AS plane_age, f.distance, f.dep_delay, f.arr_delay,
           coalesce(w.sky, 'unknown') AS sky,
           -- How late the same aircraft left New York the last time that day: lateness that it may have carried along.
           lag(f.dep_delay) OVER (PARTITION BY f.tailnum, f.month, f.day ORDER BY f.sched_dep_time, f.flight) AS earlier_delay
    FROM flown f
    JOIN airlines a      ON a.carrier = f.carrier
    LEFT JOIN airports d ON d.faa = f.dest
    LEFT JOIN planes p   ON p.tailnum = f.tailnum
    LEFT JOIN sky w      ON w.origin = f.origin AND w.time_hour = f.time_hour
) TO '@OUT@/departures/' STORED AS PARQUET PARTITIONED BY (month);

-- Aggregate: the rest reads what was just written.
CREATE EXTERNAL TABLE departures STORED AS PARQUET PARTITIONED BY (month) LOCATION '@OUT@/departures/';

-- What a kind of weather costs: the hours lost beyond what as many flights lose under a fair sky.
SELECT sky, count(*) AS flights,
       round(avg(dep_delay), 1) AS mean_delay,
       round(100.0 * count(*) FILTER (WHERE dep_delay > 30) / count(*), 1) AS late_percent,
       CAST(round((sum(dep_delay) - count(*) * fair.delay) / 60) AS BIGINT) AS extra_hours
FROM departures
CROSS JOIN (SELECT avg(dep_delay) AS delay FROM departures WHERE sky = 'fair') fair
GROUP BY sky, fair.delay
ORDER BY mean_delay DESC, sky;

-- Month by month: the worst weather, what a late aircraft passes on to its next flight, and the airlines to avoid and to choose.
WITH by_airline AS (
    SELECT month, airline, avg(arr_delay) AS delay,
           rank() OVER (PARTITION BY month ORDER BY avg(arr_delay) DESC, airline) AS from_last,
           rank() OVER (PARTITION BY month ORDER BY avg(arr_delay), airline) AS from_first
    FROM departures
    GROUP BY month, airline
    HAVING count(*) >= 500
), by_sky AS (
    SELECT month, sky, row_number() OVER (PARTITION BY month ORDER BY avg(dep_delay) DESC, sky) AS place
    FROM departures
    WHERE sky <> 'unknown'
    GROUP BY month, sky
    HAVING count(*) >= 50
), by_month AS (
    SELECT month, count(*) AS flights,
           round(avg(dep_delay), 1) AS mean_delay,
           round(avg(dep_delay) FILTER (WHERE earlier_delay > 15), 1) AS after_late_plane,
           round(avg(dep_delay) FILTER (WHERE earlier_delay <= 15), 1) AS after_punctual_plane
    FROM departures
    GROUP BY month
)
SELECT m.month, m.flights, m.mean_delay, s.sky AS worst_sky, m.after_late_plane, m.after_punctual_plane,
       worst.airline AS latest_airline, round(worst.delay, 1) AS arrives_late,
       best.airline AS most_punctual, round(best.delay, 1) AS arrives
FROM by_month m
JOIN by_sky s         ON s.month = m.month AND s.place = 1
JOIN by_airline worst ON worst.month = m.month AND worst.from_last = 1
JOIN by_airline best  ON best.month = m.month AND best.from_first = 1
ORDER BY CAST(m.month AS INT);
