"""The Lua that makes steps of several commands one, and the bytes of a newest value.

A newest value is stored as ``HEADER`` (ts, seq, rts as big-endian doubles: exact up to 2**53, which
is as far as times and seq go) and then the value. The rule is ``gateway.state.order``'s.
"""

import hashlib
import struct
from typing import Final

from gateway.state.order import CLOCK_SET_BACK_MS

HEADER: Final = struct.Struct(">ddd")
CHUNK: Final = 500  # keys of one script: 1 to 2 ms in which Redis does nothing else
_SAMPLE: Final = 4  # members of the index that each script looks after


def sha(script: str) -> str:
    """Return what EVALSHA calls ``script``."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


COMPARE_AND_SET: Final = """
local now = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
  if now then return 0 end
elseif now ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
elseif ARGV[5] == '' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
end
return 1
"""
"""KEYS: the key. ARGV: "1" if something is expected, what; "1" if something is to be stored, what;
its life in ms, "" for ever."""

PUT_NEWEST: Final = f"""
local index, ttl, skip = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]) + 1
local call, unpack_head, sub = redis.call, struct.unpack, string.sub
local count = #KEYS
local members = {{}}
for i = 2, count do
  members[i - 1] = sub(KEYS[i], skip)
end
call('SADD', index, unpack(members))
if call('PTTL', index) < ttl then
  call('PEXPIRE', index, ttl)
end
local stored = {{}}
for i = 2, count do
  local key, new = KEYS[i], ARGV[i + 1]
  local there = call('GETRANGE', key, 0, {HEADER.size - 1})
  local put = #there < {HEADER.size}
  if not put then
    local ts, seq, rts = unpack_head('>ddd', new)
    local old_ts, old_seq, old_rts = unpack_head('>ddd', there)
    put = ts > old_ts or rts >= old_rts + {CLOCK_SET_BACK_MS}
      or (ts == old_ts and (seq < 0 or seq > old_seq))
  end
  if put then
    call('SET', key, new, 'PX', ttl)
    stored[i - 1] = '1'
  else
    stored[i - 1] = '0'
  end
end
local root = sub(KEYS[2], 1, skip - 1)
for _, member in ipairs(call('SRANDMEMBER', index, {_SAMPLE})) do
  if call('EXISTS', root .. member) == 0 then
    call('SREM', index, member)
  end
end
return table.concat(stored)
"""
"""KEYS: the index, then the keys of the values. ARGV: life in ms, bytes of a key before the robot,
then header and value for each. Returns a "1" for each that was stored, "0" for the others.

The index is written first, so that no value is ever outside it; a member without a value does no
harm, and goes when it is met."""

FORGET: Final = """
local gone = 0
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    gone = gone + redis.call('SREM', KEYS[1], ARGV[i - 1])
  end
end
return gone
"""
"""KEYS: the index, keys of values that were not there. ARGV: their members."""

SHA: Final = {script: sha(script) for script in (COMPARE_AND_SET, PUT_NEWEST, FORGET)}
