package token

import "time"

// Fact says that a token was used. Two facts of the same token, secret, scope and
// bucket are one: merging keeps the earliest First and the latest Until. So a fact
// that is told twice changes nothing, and the order in which facts arrive does not
// matter.
type Fact struct {
	TokenID, SecretID ID
	// Scope is what the operation required. The zero Scope stands for a request that
	// only authenticated: its scope was refused, or nothing was forwarded.
	Scope  Scope
	Bucket time.Time // start of the bucket, UTC
	Until  time.Time // end of the bucket: for the lifecycle the use counts until then
	First  time.Time // first use in the bucket
}

// Run is one incarnation of a node: from StartedAt on it may let requests pass.
type Run struct {
	Node      string
	ID        ID // of the incarnation
	StartedAt time.Time
	Covered   time.Time // everything seen up to here has reached the store
	Contact   time.Time // last contact with the store, by the store's clock
	StoppedAt time.Time // zero: it runs, or nobody knows how it ended
	// StaleFor is how long the run goes on serving without the store.
	StaleFor time.Duration
	// WaivedAt is when an operator accepted that what it saw is not known.
	WaivedAt time.Time
}

// Gap is time that was not observed.
type Gap struct {
	From, To time.Time
	// Blind: something may have been used, so every window restarts at To.
	// Otherwise no node was serving, and windows are stretched.
	Blind  bool
	Node   string
	Reason string
}

// Count is how many requests were seen of one kind in one bucket. It is
// approximate: what a killed process had not yet handed over is missing.
type Count struct {
	Bucket            time.Time
	TokenID, SecretID ID     // empty: no token was recognised
	Scope             string // empty: the request had none, or it was not looked at
	Outcome           string // OutcomeAllowed or the code of the refusal
	Address           string // IPv4, IPv6 as its /64 prefix, or OtherAddresses
	N                 int64
}

const (
	// OutcomeAllowed is the outcome of requests that were let through.
	OutcomeAllowed = "allowed"
	// OtherAddresses stands for those beyond what is kept apart.
	OtherAddresses = "other"
)

// Activity is a part of what a run saw, as it is handed over to the store.
type Activity struct {
	Run ID
	// Seq grows by one with each part of a run that has counts; zero: this one has
	// none.
	Seq uint64
	// Covered is the moment before which everything that the run saw is in this part
	// or an earlier one, or lies within a gap of them. Zero: no news. It goes back
	// when the clock did, and then the later part is right, or when an older part is
	// handed over again, which is safe.
	Covered time.Time
	Facts   []Fact
	Counts  []Count
	Gaps    []Gap
}
