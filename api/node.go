package api

import (
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/authority"
)

// Node is a gateway, as it reports itself and as its record of use shows it.
type Node struct {
	ID             string     `json:"id" doc:"Names the node; it keeps the name over restarts, as long as it keeps its journal."`
	State          string     `json:"state" enum:"running,silent,lost,stopped,retired" doc:"running; silent: not heard of lately, and it may still let requests pass without the store; lost, with what it saw last; stopped cleanly; or retired: lost, and that was accepted."`
	StartedAt      *time.Time `json:"started_at" doc:"When it last started (RFC 3339, UTC); null: it stopped."`
	SeenAt         *time.Time `json:"seen_at" doc:"When it last reported (RFC 3339, UTC); null: it stopped."`
	MasterKeyIDs   []string   `json:"master_key_ids" nullable:"false" doc:"The IDs of the master keys that it holds."`
	CoveredThrough *time.Time `json:"covered_through" doc:"Up to when all that it saw has reached the store (RFC 3339, UTC); null: it never recorded."`
	LastContact    *time.Time `json:"last_contact" doc:"When its record of use last reached the store (RFC 3339, UTC); null: never."`
	ServesUntil    *time.Time `json:"serves_until" doc:"Of a silent node, when it will have let the last request pass (RFC 3339, UTC); null otherwise."`
	LostRuns       int        `json:"lost_runs" doc:"How many of its runs ended without handing over what they saw, and are not retired."`
}

func nodeOf(n *authority.NodeView) Node {
	return Node{
		ID: n.ID, State: string(n.State), StartedAt: timeOrNull(n.StartedAt), SeenAt: timeOrNull(n.SeenAt),
		MasterKeyIDs: listOf(slices.Sorted(maps.Keys(n.Keys))), CoveredThrough: timeOrNull(n.Covered), LastContact: timeOrNull(n.Contact),
		ServesUntil: timeOrNull(n.ServesUntil), LostRuns: n.Lost,
	}
}

// Retirement gives a gateway up.
type Retirement struct {
	_ struct{} `additionalProperties:"false"`

	AcceptGap bool `json:"accept_gap,omitempty" doc:"Accepts that what the node saw and never handed over is taken for not used. Needed when there is such a thing."`
	Confirm   bool `json:"confirm,omitempty" doc:"Confirms that the node is given up. Always needed."`
}
