-- Load for wrk: wrk -s load.lua URL -- plain
--               wrk -s load.lua URL -- get|put|heartbeat FILE SEED
-- FILE has one node per line: its id, and its registration before and after a counter, separated by tabs.
-- What can be done once is done before the load begins: the client shares the machine with the server.

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

-- As many characters as the counter has in the file's registrations: the length of a body never changes.
local PLACEHOLDER = "@@@@@@@@@@@@"

local function read(file, build)
   for line in io.lines(file) do
      build(line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)$"))
   end
end

local function fixed(method, path)
   local requests = {}
   return requests, function(id)
      requests[#requests + 1] = wrk.format(method, path:format(id))
   end
end

function init(args)
   local mode, file, seed = args[1], args[2], tonumber(args[3])
   if mode == "plain" then
      return
   end
   math.randomseed(seed * 1000 + number)
   local random = math.random
   if mode == "put" then
      wrk.headers["Content-Type"] = "application/json"
      local before, after = {}, {}
      read(file, function(id, head, tail)
         local whole = wrk.format("PUT", "/v1/nodes/" .. id, nil, head .. PLACEHOLDER .. tail)
         local from, to = whole:find(PLACEHOLDER, 1, true)
         before[#before + 1], after[#after + 1] = whole:sub(1, from - 1), whole:sub(to + 1)
      end)
      -- No two registrations of a run are equal, nor is one equal to those of another run.
      local counter = (seed % 1000 * 100 + number) * 10000000
      request = function()
         local node = random(#before)
         counter = counter + 1
         return before[node] .. ("%012d"):format(counter) .. after[node]
      end
   else
      local requests, build
      if mode == "get" then
         requests, build = fixed("GET", "/v1/nodes/%s")
      else
         requests, build = fixed("POST", "/v1/nodes/%s/heartbeat")
      end
      read(file, build)
      request = function()
         return requests[random(#requests)]
      end
   end
end

-- Exact numbers: wrk's own report rounds them. Times are in microseconds.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(("result requests=%d duration=%d p50=%d p99=%d refused=%d broken=%d\n"):format(
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
      errors.connect + errors.read + errors.write + errors.timeout))
end
