package simulate

import "maps"

// Count names something that a run counts.
type Count string

// What is counted: faults that struck, ...
const (
	Crashed       Count = "crashed"        // a gateway was killed
	PowerLost     Count = "power lost"     // with the last second of its journal
	DiskLost      Count = "disk lost"      // with all that had not been told
	Stopped       Count = "stopped"        // a gateway was stopped in order
	CutOff        Count = "cut off"        // a gateway lost the store
	ClockSet      Count = "clock set"      // a gateway's clock went wrong
	Leapt         Count = "leapt"          // the store's clock went wrong
	MailDown      Count = "mail down"      // for days
	MailRefused   Count = "mail refused"   // one copy, once
	Raised        Count = "raised"         // an operator changed the allowance
	Paused        Count = "paused"         // no scheduler came for days
	Killed        Count = "killed"         // a scheduler, at one of its transactions
	Twice         Count = "twice"          // a second scheduler came at once after the first
	Interleaved   Count = "interleaved"    // something happened between a scheduler's transactions
	PolicyChanged Count = "policy changed" // for all tokens under it
	Surprised     Count = "surprised"      // a date came, and only what was not told held its act back
)

// ... what the lifecycle did, and was judged for, ...
const (
	Passes     Count = "passes"
	Announced  Count = "announced"
	CalledOff  Count = "called off" // with the cause behind a colon
	Downgraded Count = "downgraded"
	Deleted    Count = "deleted"
	Expired    Count = "expired and deleted"
	Purged     Count = "purged"
	Late       Count = "used after all"               // acts that a use shows to be wrong, which was told later
	Missed     Count = "used after the date and lost" // of these those of which nothing will be told
	PutBack    Count = "put back"
	Held       Count = "held" // by the allowance, pass by pass
)

// ... and what people did.
const (
	Requests Count = "requests"
	Accepted Count = "copies accepted"
	Made     Count = "tokens made"
	Restored Count = "restored"
	Undone   Count = "undone"
	Lulls    Count = "lulls judged"
	Unjudged Count = "lulls not judged" // since blind time goes on in them
)

// Figures are what runs came to.
type Figures struct {
	// TokenYears are those of tokens that were active or disabled, while everything
	// could go wrong. CalmYears are those of the lulls.
	TokenYears float64       `json:"token_years"`
	CalmYears  float64       `json:"calm_years"`
	Counts     map[Count]int `json:"counts"`
}

// Acts is how many times something was taken from a token by L1 or L2.
func (f *Figures) Acts() int { return f.Counts[Downgraded] + f.Counts[Deleted] }

// Add adds up the figures of runs.
func (f *Figures) Add(o Figures) {
	f.TokenYears += o.TokenYears
	f.CalmYears += o.CalmYears
	if f.Counts == nil {
		f.Counts = map[Count]int{}
	}
	for name := range maps.Keys(o.Counts) {
		f.Counts[name] += o.Counts[name]
	}
}

func (w *World) count(c Count) { w.Figures.Counts[c]++ }
