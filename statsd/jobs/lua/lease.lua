-- Lease what is due. Request and reply: see `lease_due`.

return lease_due(request)
