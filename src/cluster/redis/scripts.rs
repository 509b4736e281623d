//! What happens in one step in the store. Scripts name all their keys, which have one tag; they go by the store's
//! clock, never by a gateway's.

/// Milliseconds on the store's clock. A number is written out in full, which Lua on its own does not do.
macro_rules! script {
    ($body:literal) => {
        concat!(
            "local t = redis.call('TIME')\n",
            "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n",
            "local function whole(n) return string.format('%.0f', n) end\n",
            $body
        )
    };
}

/// KEYS: generation, members, configuration, leases. ARGV: node, incarnation, beat, leaving, record, milliseconds
/// until it is gone, a new generation, most members, most leases.
///
/// Gives: duplicate, generation, now, configuration's version and hash, members (six values each), leases (four each).
///
/// What no gateway writes goes: what has another form, is longer than it can be, of a far future, or was not renewed
/// for long. However much of it somebody puts there, this is answered, and with no more than there can be.
pub(super) const BEAT: &str = script!(
    r"
local node, most = ARGV[1], tonumber(ARGV[8])
redis.call('SET', KEYS[1], ARGV[7], 'NX')
local generation = redis.call('GET', KEYS[1])
if #generation > 64 then
  redis.call('SET', KEYS[1], ARGV[7])
  generation = ARGV[7]
end

local members, own = {}, nil
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local name, value = all[i], all[i + 1]
  local inc, beat, at, left, gone, record
  if #name <= 96 and #value <= 8192 and not string.find(name, '[^%w_.~-]') then
    inc, beat, at, left, gone, record = string.match(value, '^(%d+) (%d+) (%d+) (%d) (%d+) (.*)$')
  end
  local age = inc and now - tonumber(at)
  -- Nobody has more than ten minutes until it is gone.
  gone = inc and math.min(tonumber(gone), 600000)
  if not inc or age > math.max(60000, 20 * gone) or age < -60000 then
    redis.call('HDEL', KEYS[2], name)
  else
    local member = {name, inc, beat, age, left, record}
    if name == node then own = {member, gone} end
    members[#members + 1] = member
  end
end

local duplicate = ''
if own then
  local _, inc, _, age, left = unpack(own[1])
  if inc ~= ARGV[2] and left == '0' and math.abs(age) < own[2] then duplicate = inc end
end
if #members > most or (not own and #members == most) then
  -- Those that beat just now stay, and of the others as many as there is room for.
  table.sort(members, function(a, b) return math.abs(a[4]) < math.abs(b[4]) end)
  for i = #members, most, -1 do
    if math.abs(members[i][4]) <= tonumber(ARGV[6]) then break end
    redis.call('HDEL', KEYS[2], members[i][1])
    members[i] = nil
  end
end
if duplicate == '' then
  if not own then
    if #members >= most then
      return redis.error_reply('FULL the cluster has as many members as it can have')
    end
    own = {{node}}
    members[#members + 1] = own[1]
  end
  local head = table.concat({ARGV[2], ARGV[3], whole(now), ARGV[4], ARGV[6]}, ' ')
  redis.call('HSET', KEYS[2], node, head .. ' ' .. ARGV[5])
  for i, value in ipairs({node, ARGV[2], ARGV[3], 0, ARGV[4], ARGV[5]}) do own[1][i] = value end
end
local told = {}
for i = 1, math.min(#members, most) do
  for n, value in ipairs(members[i]) do told[#told + 1] = n == 4 and whole(value) or value end
end

local leases = {}
-- What somebody else put there is no reason to take nobody for a member.
all = redis.pcall('HGETALL', KEYS[4])
if all.err then all = {} end
for i = 1, #all, 2 do
  local holder, token, till
  if #all[i] <= 64 and #all[i + 1] <= 256 and not string.find(all[i], '[^%w_.-]') then
    holder, token, till = string.match(all[i + 1], '^(%S+) (%d+) (%d+)$')
  end
  local left = holder and tonumber(till) - now
  if not holder or math.abs(left) > 3600000 then
    redis.call('HDEL', KEYS[4], all[i])
  elseif left > 0 and #leases < 4 * tonumber(ARGV[9]) then
    for _, value in ipairs({all[i], holder, token, whole(left)}) do leases[#leases + 1] = value end
  end
end

local config = redis.pcall('HMGET', KEYS[3], 'version', 'sha256')
if config.err then config = {} end
local version, hash = config[1] or '0', config[2] or ''
if #version > 20 or #hash > 128 then version, hash = '0', '' end
return {duplicate, generation, whole(now), version, hash, told, leases}
"
);

/// KEYS: members. ARGV: node, whether its record goes if it can. Gives `alive`, `gone` or `unknown`.
pub(super) const FORGET: &str = script!(
    r"
local own = redis.call('HGET', KEYS[1], ARGV[1])
if not own then return 'unknown' end
local at, left, gone = string.match(own, '^%d+ %d+ (%d+) (%d) (%d+) ')
if at and left == '0' and math.abs(now - tonumber(at)) < math.min(tonumber(gone), 600000) then return 'alive' end
if ARGV[2] == '1' then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 'gone'
"
);

/// KEYS: table, leases. ARGV: key, revision, node, whether there is a value, value, most entries, milliseconds that
/// removals are remembered, task or nothing, token, holder, greatest revision, longest key.
pub(super) const PUT: &str = script!(
    r"
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
if ARGV[8] ~= '' then
  local holder, token, till = string.match(redis.call('HGET', KEYS[2], ARGV[8]) or '', '^(%S+) (%d+) (%d+)$')
  if not holder or holder ~= ARGV[10] or token ~= ARGV[9] or now >= tonumber(till) then return 'fenced' end
end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
  local revision, node, there, value = string.match(old, '^(%d+) (%S+) (%d) %d+ (.*)$')
  -- One of a revision that no clock of ours comes to is nobody's.
  if revision and tonumber(revision) <= tonumber(ARGV[11]) then
    local a, b = tonumber(ARGV[2]), tonumber(revision)
    if a == b and node == ARGV[3] and there == ARGV[4] and value == ARGV[5] then return 'stored' end
    if a < b or (a == b and not before(node, ARGV[3])) then return 'older' end
  end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local revision, there, since = string.match(all[i + 1], '^(%d+) %S+ (%d) (%d+) ')
    local ours = revision and tonumber(revision) <= tonumber(ARGV[11]) and #all[i] <= tonumber(ARGV[12])
    if not ours or (there == '0' and now - tonumber(since) >= tonumber(ARGV[7])) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then return 'full' end
end
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ARGV[2], ARGV[3], ARGV[4], whole(now), ARGV[5]}, ' '))
return 'stored'
"
);

/// KEYS: leases, tokens. ARGV: task, holder, milliseconds, most leases. Gives a token, or nothing.
pub(super) const ACQUIRE: &str = script!(
    r"
local token
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local holder, number, till = string.match(held, '^(%S+) (%d+) (%d+)$')
  local left = holder and tonumber(till) - now or 0
  -- One that goes on for longer than any is of a master whose clock was ahead.
  if left > 0 and left <= 2 * tonumber(ARGV[3]) then
    if holder ~= ARGV[2] then return '' end
    token = number
  end
end
local function foreign(name, number)
  return #name > 64 or #number > 15 or string.find(name, '[^%w_.-]') or string.find(number, '%D')
end
local most, last = tonumber(ARGV[4]), redis.call('HGET', KEYS[2], ARGV[1])
if last and foreign(ARGV[1], last) then redis.call('HDEL', KEYS[2], ARGV[1]) end
if not last and redis.call('HLEN', KEYS[2]) >= most then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if foreign(all[i], all[i + 1]) then redis.call('HDEL', KEYS[2], all[i]) end
  end
  if redis.call('HLEN', KEYS[2]) >= most then return 'full' end
end
token = token or redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. token .. ' ' .. whole(now + tonumber(ARGV[3])))
return tostring(token)
"
);

/// KEYS: leases. ARGV: task, holder, token, milliseconds; with none of these it is given back. Gives 1 if it was held.
pub(super) const RENEW: &str = script!(
    r"
local holder, token, till = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%S+) (%d+) (%d+)$')
if not holder or holder ~= ARGV[2] or token ~= ARGV[3] or now >= tonumber(till) then return 0 end
if ARGV[4] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], holder .. ' ' .. token .. ' ' .. whole(now + tonumber(ARGV[4])))
end
return 1
"
);

/// KEYS: configuration, summaries and contents of versions before. ARGV: version expected, version, content, its hash,
/// summary, versions to keep. Gives whether it was published (-1: something else is there), and the version in force.
pub(super) const PUBLISH_CONFIG: &str = script!(
    r"
local old = redis.pcall('HMGET', KEYS[1], 'version', 'content', 'about')
if old.err then return {-1, '0'} end
local current = old[1] or '0'
if current ~= ARGV[1] then return {0, current} end
if old[1] and old[2] then
  redis.call('HSET', KEYS[2], current, old[3] or '')
  redis.call('HSET', KEYS[3], current, old[2])
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'content', ARGV[3], 'sha256', ARGV[4], 'about', ARGV[5],
  'at', whole(now))
local oldest = tonumber(ARGV[2]) - tonumber(ARGV[6]) + 1
for _, key in ipairs({KEYS[2], KEYS[3]}) do
  for _, version in ipairs(redis.call('HKEYS', key)) do
    local number = tonumber(version)
    if not number or number < oldest or number >= tonumber(ARGV[2]) then redis.call('HDEL', key, version) end
  end
end
return {1, ARGV[2]}
"
);

/// KEYS: configuration. ARGV: longest content. Gives its version, hash and content, or a single value where something
/// else is there.
pub(super) const CONFIG: &str = script!(
    r"
local found = redis.pcall('HMGET', KEYS[1], 'version', 'sha256', 'content')
if found.err then return {'other'} end
if #(found[1] or '') > 20 or #(found[2] or '') > 128 or #(found[3] or '') > tonumber(ARGV[1]) then return {'other'} end
return {found[1] or '', found[2] or '', found[3] or ''}
"
);

/// KEYS: configuration, summaries of versions before. ARGV: most versions, longest summary. Gives version and summary
/// in turn.
pub(super) const CONFIG_VERSIONS: &str = script!(
    r"
local all, told = redis.call('HGETALL', KEYS[2]), {}
local function tell(version, about)
  if #version <= 20 and #about <= tonumber(ARGV[2]) and #told < 2 * tonumber(ARGV[1]) then
    told[#told + 1] = version
    told[#told + 1] = about
  end
end
local now = redis.pcall('HMGET', KEYS[1], 'version', 'about')
if not now.err and now[1] then tell(now[1], now[2] or '') end
for i = 1, #all, 2 do tell(all[i], all[i + 1]) end
return told
"
);

/// KEYS: table. ARGV: cursor, about how many, longest key, longest entry. Gives the next cursor, and keys and entries in
/// turn; what is longer than any of ours is left out here, so that it is no answer of many megabytes, and what is longer by
/// far than any can become is taken out, so that nobody has to look at it with every reading.
pub(super) const READ: &str = script!(
    r"
local found, told = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
local page = found[2]
for i = 1, #page, 2 do
  if #page[i] <= tonumber(ARGV[3]) and #page[i + 1] <= tonumber(ARGV[4]) then
    told[#told + 1] = page[i]
    told[#told + 1] = page[i + 1]
  elseif #page[i] > 8 * tonumber(ARGV[3]) or #page[i + 1] > 8 * tonumber(ARGV[4]) then
    redis.pcall('HDEL', KEYS[1], page[i])
  end
end
return {found[1], told}
"
);

/// KEYS: log. ARGV: from, most events, longest event. Gives the id and the content of each; an empty content where
/// there is none of ours, so that whoever reads on gets past it.
pub(super) const EVENTS: &str = script!(
    r"
local told = {}
for _, event in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local content = ''
  local fields = event[2]
  for i = 1, math.min(#fields, 16), 2 do
    if fields[i] == 'd' and #fields[i + 1] <= tonumber(ARGV[3]) then content = fields[i + 1] end
  end
  told[#told + 1] = event[1]
  told[#told + 1] = content
end
return told
"
);
