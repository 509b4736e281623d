-- Sends the bytes of the file named after `--` as every request, and prints what came of it as one line of JSON.

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local bytes = file:read("*a")
  file:close()
  -- wrk calls this once and, as there is no global `request`, repeats its result without calling Lua again.
  wrk.format = function() return bytes end
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format(
    '\n{"requests":%d,"bytes":%d,"errors":%d,"seconds":%.6f,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.bytes, failed, summary.duration / 1e6, latency:percentile(50),
    latency:percentile(90), latency:percentile(99), latency.max))
end
