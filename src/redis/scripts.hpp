#pragma once

namespace krul::redis {

// What has to be one step runs on the server. KEYS are those that are always touched; the names of parts follow from
// the entries of the index, and have the same hash tag.

/// Begins publish_script and erase_script. KEYS: [1] index, [2] lock. ARGV: [1] token of the lock that the caller has,
/// or "", [2] ms that the lock's key lives from now on, [3] start of the parts' keys, [4] object. Returns 0 if the lock
/// is lost. An entry that claims what parse_version refuses has no parts, and all entries together no more than a
/// million: a script cannot be ended once it has written.
inline constexpr char write_script[] = R"(if ARGV[1] ~= '' then
  if redis.call('get', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('pexpire', KEYS[2], ARGV[2])
end
local left = 1048576
local function parts(entry)
  local size, part, version = string.match(entry, '^(%d+) (%d+) (%x+)$')
  size, part = tonumber(size), tonumber(part)
  local keys = {}
  if size and #version == 32 and part >= 1024 and size <= part * 65536 then
    local count = math.ceil(size / part)
    left = left - count
    if left < 0 then return {} end
    for i = 0, count - 1 do keys[#keys + 1] = ARGV[3] .. version .. ':' .. i end
  end
  return keys
end
local function delete(keys)
  for _, key in ipairs(keys) do redis.call('unlink', key) end
end
local old = redis.call('hget', KEYS[1], ARGV[4])
)";

/// Enters a version whose parts are there, and deletes the one before it. ARGV: [5] entry, [6] ms that the folder lives
/// from now on, or 0. Returns 1; -1 if a part is not there.
inline constexpr char publish_script[] = R"(local new = parts(ARGV[5])
for _, key in ipairs(new) do
  if redis.call('exists', key) == 0 then return -1 end
end
redis.call('hset', KEYS[1], ARGV[4], ARGV[5])
if old and old ~= ARGV[5] then delete(parts(old)) end
if ARGV[6] == '0' then
  for _, key in ipairs(new) do redis.call('persist', key) end
  redis.call('persist', KEYS[1])
else
  for _, entry in ipairs(redis.call('hvals', KEYS[1])) do
    for _, key in ipairs(parts(entry)) do redis.call('pexpire', key, ARGV[6]) end
  end
  redis.call('pexpire', KEYS[1], ARGV[6])
end
return 1)";

/// Deletes an object. Returns 1.
inline constexpr char erase_script[] = R"(redis.call('hdel', KEYS[1], ARGV[4])
if old then delete(parts(old)) end
return 1)";

/// Takes a lock. Its key outlives it, so that whoever had it learns whether somebody has had it since. KEYS: [1] lock.
/// ARGV: [1] token, [2] ms that the key lives, [3] ms of these that come after the lock's end. Returns 0, or for how
/// many ms more somebody else has it. Above its maxmemory a server refuses a script's first write if it takes memory,
/// and only that; without the lock nobody could erase what fills it.
inline constexpr char lock_script[] = R"(local held = redis.call('get', KEYS[1])
if held and held ~= ARGV[1] then
  local left = redis.call('pttl', KEYS[1]) - ARGV[3]
  if left > 0 then return left end
end
redis.call('del', KEYS[1])
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 0)";

/// Gives a lock back, if it is still the caller's. KEYS: [1] lock. ARGV: [1] token. Returns 0.
inline constexpr char release_script[] = R"(if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
return 0)";

}  // namespace krul::redis
