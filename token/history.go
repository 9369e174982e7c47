package token

import "time"

// History is the token's own past that windows count from.
type History struct {
	// Observed is the latest of creation, import, restoring, and enabling of the
	// token, its user or its account.
	Observed time.Time
	// LevelSince is when it got the permissions that it has; zero: before that
	// was written down.
	LevelSince time.Time
	// ExemptUntil is the end of its exemption; zero: none.
	ExemptUntil time.Time
	// DowngradedAt is when the lifecycle last took permissions, Before what it
	// held, and UndoUntil when that can be had back until. Zero: it did not.
	DowngradedAt, UndoUntil time.Time
	Before                  Grant
}

// Notice is a message about something to come that was written for a token.
type Notice struct {
	ID ID `json:"id,omitzero"`
	// Kind is the action that it announces, or that it told of.
	Kind ActionKind `json:"kind"`
	// Due is the date that it names. Nothing it announces happens before.
	Due time.Time `json:"due"`
	// Scopes are those that it named as going away; none for a read_write token
	// that becomes read_only.
	Scopes  []string  `json:"scopes,omitempty"`
	Created time.Time `json:"created"`
	// Accepted is when the last counted recipient's copy was; zero: not yet.
	Accepted time.Time `json:"accepted,omitzero"`
	// Voided says that it was called off. It stands for nothing any more, but
	// people have read it.
	Voided bool `json:"voided,omitempty"`
}
