-- Hooks, with which other packages extend the scripts of the queue. These defaults do nothing.
--
-- include jobs/queue

local hooks = {
  -- A job was completed; `answer` is its part of the request, `key_index` the JSON array of its
  -- keys before.
  completed = function(_name, _answer, _key_index) end,
  -- A job failed for good.
  buried = function(_name) end,
  -- Time has passed: enqueue the jobs whose answers changed by themselves.
  time_passed = function() end,
  -- Jobs were leased: return an array with prefetched data for each, or nil.
  prefetch = function(_names) return nil end,
  -- Whether the data of a job beside its values is complete.
  is_whole = function(_name) return true end,
}
