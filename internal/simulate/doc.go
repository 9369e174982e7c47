// Package simulate runs whole fleets for years on a clock of its own: gateways that
// serve, crash, lose their disks and their store, clocks that are wrong, mail that
// fails, schedulers that are killed or run twice, and people who change things.
//
// Stores, authority and lifecycle are the real ones. Only gateways and mail are
// models, with the rules of package usage: what was forwarded is in the journal
// before, which outlives the process and not the disk. The truth about every
// request is kept beside, and what the lifecycle does is held against it. A seed
// reproduces a run.
package simulate
