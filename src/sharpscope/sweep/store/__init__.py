"""A folder of published results, and what the processes that share it know of each other.

`store` is the folder itself, `manifest` the checksums of a result, `identity` the two files that say what a store is,
`records` failures and the journal, `workspaces` unfinished work and garbage. `owner` names processes; `liveness`,
`leases` and `sharing` are how coordinators share the work out; `activity` is what an onlooker sees of them.
"""
