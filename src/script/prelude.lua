-- What scripts see of Lua and of the server: Redis' sandbox, on top of LuaJIT.
--
-- The chunk gets a table of functions written in Rust and returns what the engine needs. Scripts
-- run in an environment that cannot be written to; so are all tables that it leads to.

local native = ...

local raw_pcall, raw_xpcall, raw_rawset, raw_setmetatable = pcall, xpcall, rawset, setmetatable
local raw_load, type, select, error, tostring, next = load, type, select, error, tostring, next
local setfenv, raw_getfenv, unpack = setfenv, getfenv, unpack
local create, resume, wrap, yield = coroutine.create, coroutine.resume, coroutine.wrap, coroutine.yield
local running, status = coroutine.running, coroutine.status
local getinfo = debug.getinfo
local find, sub, gsub, concat, sort = string.find, string.sub, string.gsub, table.concat, table.sort
local insert, foreach = table.insert, table.foreach

-- ---- asking the server for a command

-- What a coroutine yields first when it means the engine, not the script that resumed it: a command
-- is to run, or to be looked up. Behind it come its name and arguments. The engine answers with the
-- reply and whether it is an error.
local CALL, CHECK = 1, 2

-- Marks what a script's own coroutine yields to the script.
local OWN = {}

-- A script's own coroutines: what is meant for the engine passes through them. So does what comes
-- without a mark: the engine suspends scripts now and then.
local function relay(routine, ok, mark, ...)
  if not ok or status(routine) == "dead" then
    return ok, mark, ...
  elseif mark == OWN then
    return ok, ...
  elseif mark then
    return relay(routine, resume(routine, yield(mark, ...)))
  end
  yield()
  return relay(routine, resume(routine))
end

local function raised(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

-- The coroutines that scripts have resumed. A script itself runs in one, of which it knows nothing.
local owned = raw_setmetatable({}, { __mode = "k" })

local coroutines = {
  create = create,
  running = function()
    local routine = running()
    return owned[routine] and routine or nil
  end,
  status = status,
  -- What is outside the script's own coroutines cannot be suspended by the script.
  yield = function(...)
    if not owned[running()] then
      error("attempt to yield across metamethod/C-call boundary", 0)
    end
    return yield(OWN, ...)
  end,
  resume = function(routine, ...)
    if type(routine) == "thread" then
      owned[routine] = true
    end
    return relay(routine, resume(routine, ...))
  end,
  wrap = function(body)
    local routine = create(body)
    owned[routine] = true
    return function(...)
      return raised(relay(routine, resume(routine, ...)))
    end
  end,
}

-- ---- errors

-- A caught error that tells of a failed command reads as its text.
local function caught(ok, ...)
  if ok then
    return true, ...
  end
  local what = ...
  if type(what) == "table" and (type(what.err) == "string" or type(what.err) == "number") then
    what = what.err
  end
  return false, what
end

local function protected_call(...)
  return caught(raw_pcall(...))
end

-- The names of chunks: of scripts, and of libraries.
local CHUNKS = { user_script = true, user_function = true }

-- The chunk and line of the innermost function of a script, found by asking for an error's
-- position level by level.
local function place()
  for level = 2, 24 do
    local _, position = raw_pcall(error, "", level)
    local from, _, source, line = find(position, "^([^:]*):(%d+): $")
    if from and CHUNKS[source] then
      return "@" .. source, line
    end
  end
end

local function explain(what)
  if type(what) ~= "table" then
    what = { err = "ERR " .. tostring(what) }
  end
  local source, line = place()
  if source then
    what.source, what.line = source, line
  end
  return what
end

-- What is told of a suspended script that is ended.
local function killed(routine, command)
  local what = { err = "ERR Script killed by user with " .. command .. "." }
  for level = 0, 24 do
    local frame = getinfo(routine, level, "Sl")
    if not frame then
      break
    elseif CHUNKS[frame.short_src] then
      what.source, what.line = frame.source, tostring(frame.currentline)
      break
    end
  end
  return what
end

-- The body of a script's coroutine.
local function enter(script, ...)
  return raw_xpcall(script, explain, ...)
end

-- ---- functions whose C versions could not be suspended while they call back

local function pack(...)
  return { n = select("#", ...), ... }
end

local function replace_by_call(text, pattern, call, most)
  local anchored = sub(pattern, 1, 1) == "^"
  local parts, at, count = {}, 1, 0
  while at <= #text + 1 and count < most do
    local found = pack(find(text, pattern, at))
    local from, to = found[1], found[2]
    if not from then
      break
    end
    count = count + 1
    local whole = sub(text, from, to)
    local value
    if found.n > 2 then
      value = call(unpack(found, 3, found.n))
    else
      value = call(whole)
    end
    parts[#parts + 1] = sub(text, at, from - 1)
    if not value then
      value = whole
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error("invalid replacement value (a " .. type(value) .. ")", 2)
    end
    parts[#parts + 1] = value
    if to >= from then
      at = to + 1
    else
      parts[#parts + 1] = sub(text, from, from)
      at = from + 1
    end
    if anchored then
      break
    end
  end
  parts[#parts + 1] = sub(text, at)
  return concat(parts), count
end

local function substitute(text, pattern, with, most)
  if type(with) == "function" and type(text) == "string" and type(pattern) == "string" then
    return replace_by_call(text, pattern, with, most or math.huge)
  end
  return gsub(text, pattern, with, most)
end

-- A merge sort: unlike the one in C it asks the comparison of a script, which may call commands.
local function merge(list, spare, from, middle, to, before)
  local left, right = from, middle + 1
  for at = from, to do
    if left <= middle and (right > to or not before(list[right], list[left])) then
      spare[at] = list[left]
      left = left + 1
    else
      spare[at] = list[right]
      right = right + 1
    end
  end
  for at = from, to do
    list[at] = spare[at]
  end
end

local function arrange(list, before)
  if before == nil then
    return sort(list)
  end
  if type(before) ~= "function" then
    return sort(list, before)
  end
  local count, spare, width = #list, {}, 1
  while width < count do
    for from = 1, count - width, 2 * width do
      local to = from + 2 * width - 1
      merge(list, spare, from, from + width - 1, to < count and to or count, before)
    end
    width = 2 * width
  end
end

-- ---- tables that cannot be written to

local READONLY = "Attempt to modify a readonly table"
local sealed = raw_setmetatable({}, { __mode = "k" })

local function refuse()
  error(READONLY, 2)
end

-- A read-only view of a table; `missing` is called for what it does not have.
local function seal(of, missing)
  if missing then
    raw_setmetatable(of, { __index = missing })
  end
  local meta = { __index = of, __newindex = refuse }
  local view = raw_setmetatable({}, meta)
  sealed[view] = of
  -- What scripts see of the metatable is a view as well.
  local shown = raw_setmetatable({}, { __newindex = refuse, __metatable = false })
  sealed[shown] = {}
  meta.__metatable = shown
  return view, meta
end

-- `table.insert` asks no metatable before it writes; what it does not take, it refuses itself.
local function insert_unsealed(...)
  if sealed[(...)] then
    local count = select("#", ...)
    if count == 2 or count == 3 and tonumber((select(2, ...))) then
      error(READONLY, 0)
    end
  end
  return insert(...)
end

local function set_count()
  error("'setn' is obsolete", 2)
end

-- Reading on behalf of a script goes through to what a view shows.
local function view_next(list, key)
  return next(sealed[list] or list, key)
end

local function view_foreach(...)
  local list = ...
  if sealed[list] then
    return foreach(sealed[list], select(2, ...))
  end
  return foreach(...)
end

local function view_pairs(list)
  if sealed[list] then
    return view_next, list, nil
  end
  return pairs(list)
end

-- ---- what scripts see

local function text_only(chunk, name)
  if type(chunk) == "function" then
    local parts = {}
    for part in chunk do
      if part == "" then
        break
      end
      parts[#parts + 1] = part
    end
    chunk, name = concat(parts), name or "=(load)"
  end
  return raw_load(chunk, name or chunk, "t")
end

-- What a script asks of the collector concerns all scripts to come: it may have garbage collected, and
-- no more. Redis: evalGenericCommand, which collects some after every 50 scripts, whatever they asked.
local collect = collectgarbage
local tuning = { setpause = 200, setstepmul = 200 }

local function collect_only(what, number)
  if what == "stop" or what == "restart" then
    return 0
  elseif tuning[what] then
    local before = tuning[what]
    tuning[what] = tonumber(number) or 0
    return before
  end
  return collect(what, number)
end

local globals = {
  _VERSION = "Lua 5.1",
  assert = assert,
  collectgarbage = collect_only,
  error = error,
  gcinfo = gcinfo,
  getmetatable = getmetatable,
  ipairs = ipairs,
  next = view_next,
  pairs = view_pairs,
  pcall = protected_call,
  rawequal = rawequal,
  rawget = function(list, key)
    return rawget(sealed[list] or list, key)
  end,
  rawset = function(list, key, value)
    if sealed[list] then
      error(READONLY, 0)
    end
    return raw_rawset(list, key, value)
  end,
  select = select,
  setmetatable = function(list, meta)
    if sealed[list] then
      error(READONLY, 0)
    end
    return raw_setmetatable(list, meta)
  end,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = unpack,
  xpcall = xpcall,
}

-- `lua-enable-deprecated-api`: environments of functions, and userdata. Only those of a script's own
-- functions can be seen or changed: ours lead to all of Lua.
local environments = raw_setmetatable({}, { __mode = "k" })

-- What getfenv and setfenv shall mean, as raw ones within ours.
local function place_of(what)
  local place = what == nil and 1 or what
  if type(place) == "number" then
    if place < 1 then
      return nil
    end
    return place + 1
  end
  return place
end

local function own_of(what)
  local place = place_of(what)
  local own = place and raw_getfenv(type(place) == "number" and place + 1 or place)
  return environments[own] and own or nil
end

if native.deprecated then
  globals.newproxy = newproxy
  globals.getfenv = function(what)
    if what == 0 then
      return globals._G
    end
    local own = own_of(what)
    if not own then
      error("no environment of a script", 2)
    end
    return own
  end
  globals.setfenv = function(what, environment)
    if type(environment) ~= "table" then
      error("bad argument #2 to 'setfenv' (table expected)", 2)
    end
    if not own_of(what) then
      error("no environment of a script", 2)
    end
    environments[environment] = true
    local changed = setfenv(place_of(what), environment)
    return changed
  end
end

local function copy(of, with)
  local result = {}
  for name, value in pairs(of) do
    result[name] = value
  end
  for name, value in pairs(with or {}) do
    result[name] = value
  end
  return result
end

local strings = seal(copy(string, { gsub = substitute }))
globals.string = strings
local text_meta = getmetatable("")
text_meta.__index = strings
text_meta.__metatable = seal({ __index = strings })
globals.table = seal(copy(table, {
  foreach = view_foreach,
  insert = insert_unsealed,
  setn = set_count,
  sort = arrange,
}))
globals.math = seal(copy(math))
-- LuaJIT's negates the number of digits without looking at the smallest integer.
local tohex = bit.tohex
globals.bit = seal(copy(bit, {
  tohex = function(number, digits)
    if digits == nil then
      return tohex(number)
    end
    digits = tonumber(digits) or digits
    return tohex(number, type(digits) == "number" and digits < -8 and -8 or digits)
  end,
}))
globals.coroutine = seal(coroutines)
globals.cjson = seal(native.cjson)
globals.cmsgpack = seal(native.cmsgpack)
globals.struct = seal(native.struct)

local redis = native.redis
redis.call = function(...)
  local reply, failed = yield(CALL, ...)
  if failed then
    error(reply, 0)
  end
  return reply
end
redis.pcall = function(...)
  return (yield(CALL, ...))
end
redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3
redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL = 0, 1, 2, 2, 3
redis.breakpoint = function()
  return false
end
redis.debug = function() end
redis.replicate_commands = function()
  return true
end

local function failure(text)
  return { err = text }
end

-- An error's text begins with its code; `-` in front of it is left out.
redis.error_reply = function(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return failure("ERR wrong number or type of arguments")
  end
  text = gsub(gsub(text, "^%-", ""), "^[\r\n]*(.-)[\r\n]*$", "%1")
  return failure(find(text, " ", 1, true) and text or "ERR " .. text)
end
redis.status_reply = function(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return failure("ERR wrong number or type of arguments")
  end
  return { ok = text }
end
redis.sha1hex = function(...)
  if select("#", ...) ~= 1 then
    error(failure("ERR wrong number of arguments"), 0)
  end
  local text = ...
  local is_text = type(text) == "string" or type(text) == "number"
  return native.sha1hex(is_text and tostring(text) or "")
end
redis.setresp = function(...)
  if select("#", ...) ~= 1 then
    error(failure("ERR redis.setresp() requires one argument."), 0)
  end
  local version = tonumber((...))
  if version ~= 2 and version ~= 3 then
    error(failure("ERR RESP version must be 2 or 3."), 0)
  end
  native.set_protocol(version)
end
redis.set_repl = function(...)
  if select("#", ...) ~= 1 then
    error(failure("ERR redis.set_repl() requires two arguments."), 0)
  end
  -- As C takes it: nothing is none of them, and a fraction is cut off.
  local flags = tonumber((...)) or 0
  if not (flags > -1 and flags < 4) then
    error(failure("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."), 0)
  end
  native.set_audience(flags < 0 and 0 or math.floor(flags))
end
redis.log = function(...)
  if select("#", ...) < 2 then
    error(failure("ERR redis.log() requires two arguments or more."), 0)
  end
  local level = ...
  if type(level) ~= "number" then
    error(failure("ERR First argument must be a number (log level)."), 0)
  end
  if level < 0 or level > 3 then
    error(failure("ERR Invalid debug level."), 0)
  end
  local words = {}
  for at = 2, select("#", ...) do
    local word = select(at, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = tostring(word)
    end
  end
  native.log(level, concat(words, " "))
end
redis.acl_check_cmd = function(...)
  if select("#", ...) == 0 then
    error(failure("ERR Please specify at least one argument for this redis lib call"), 0)
  end
  local reply, failed = yield(CHECK, ...)
  if failed then
    error(reply, 0)
  end
  return reply
end
globals.redis = seal(redis)

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

-- What loads code within an environment.
local function loader(environment)
  return function(chunk, name)
    local compiled, why = text_only(chunk, name)
    if not compiled then
      return nil, why
    end
    return setfenv(compiled, environment)
  end
end

-- Functions see what scripts see, but for what concerns EVAL alone.
local function_redis = copy(redis)
function_redis.breakpoint, function_redis.debug, function_redis.replicate_commands = nil, nil, nil
local function_globals = copy(globals, { redis = seal(function_redis) })
local function_environment, function_meta = seal(function_globals, missing)

local environment = seal(globals, missing)
globals._G = environment
globals.load, globals.loadstring = loader(environment), loader(environment)
function_globals._G = function_environment
function_globals.load, function_globals.loadstring = loader(function_environment), loader(function_environment)

environments[environment], environments[function_environment] = true, true

-- ---- libraries of functions

-- What the library that is being loaded has registered; nil while none is.
local loading

local function complain(text)
  error(failure("ERR " .. text), 0)
end

local function text_of(value)
  if type(value) == "string" or type(value) == "number" then
    return tostring(value)
  end
end

-- The bits of named flags, in the order in which the engine numbers them; nil if one is unknown.
local function flags_of(list)
  local flags, seen = 0, {}
  for at = 1, math.huge do
    local name = rawget(list, at)
    if name == nil then
      return flags
    end
    local bit_of = native.flags[string.lower(text_of(name) or "")]
    if not bit_of then
      return nil
    elseif not seen[bit_of] then
      seen[bit_of], flags = true, flags + bit_of
    end
  end
end

local function named(of)
  if type(of) ~= "table" then
    complain("calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
  end
  local given = { flags = 0 }
  for key, value in next, of do
    key = text_of(key)
    if not key then
      complain("named argument key given to redis.register_function is not a string")
    end
    key = string.lower(key)
    if key == "function_name" then
      given.name = text_of(value) or complain("function_name argument given to redis.register_function must be a string")
    elseif key == "description" then
      given.description = text_of(value) or complain("description argument given to redis.register_function must be a string")
    elseif key == "callback" then
      if type(value) ~= "function" then
        complain("callback argument given to redis.register_function must be a function")
      end
      given.callback = value
    elseif key == "flags" then
      if type(value) ~= "table" then
        complain("flags argument to redis.register_function must be a table representing function flags")
      end
      given.flags = flags_of(value) or complain("unknown flag given")
    else
      complain("unknown argument given to redis.register_function")
    end
  end
  if not given.name then
    complain("redis.register_function must get a function name argument")
  elseif not given.callback then
    complain("redis.register_function must get a callback argument")
  end
  return given
end

local function register(...)
  if not loading then
    complain("redis.register_function can only be called on FUNCTION LOAD command")
  end
  local count = select("#", ...)
  local name, callback = ...
  local given
  if count == 1 then
    given = named(name)
  elseif count ~= 2 then
    complain("wrong number of arguments to redis.register_function")
  else
    given = { name = text_of(name), callback = callback, flags = 0 }
    if not given.name then
      complain("first argument to redis.register_function must be a string")
    elseif type(callback) ~= "function" then
      complain("second argument to redis.register_function must be a function")
    end
  end
  if not find(given.name, "^[%w_]+$") then
    complain("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
  end
  for at = 1, #loading do
    if loading[at].name == given.name then
      complain("Function already exists in the library")
    end
  end
  loading[#loading + 1] = given
end

local library_redis = { register_function = register, log = redis.log }
for name, value in pairs(redis) do
  if find(name, "^LOG_") or find(name, "^REDIS_") then
    library_redis[name] = value
  end
end
local library_globals = raw_setmetatable({ redis = seal(library_redis, missing) }, { __index = missing })

-- While a library is loaded, its code sees what registers functions, and nothing else.
local function begin_load()
  loading = {}
  function_meta.__index = library_globals
end

local function end_load()
  local registered = loading
  loading = nil
  function_meta.__index = function_globals
  return registered
end

return {
  enter = enter,
  environment = environment,
  globals = globals,
  killed = killed,
  function_environment = function_environment,
  begin_load = begin_load,
  end_load = end_load,
  enter_load = function(body)
    return raw_pcall(body)
  end,
}
