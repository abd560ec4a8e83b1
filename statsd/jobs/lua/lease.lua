-- Lease due jobs. Request and reply: see `lease_due`.
--
-- include jobs/leasing

return reply(lease_due(request))
