package api

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/token"
)

// Lifecycle is what looks after the tokens; *lifecycle.Keeper is one.
type Lifecycle interface {
	// Pass must not run beside another pass of this gateway.
	Pass(context.Context) (lifecycle.Report, error)
	Forecast(context.Context, lifecycle.Options) (lifecycle.Forecast, error)
	Preview(context.Context, lifecycle.Question) (lifecycle.Preview, error)
	Coverage(context.Context) (lifecycle.Observation, error)
	Recommend(context.Context, token.ID) (lifecycle.Recommendation, error)
}

// Forecast is one page of what is to come, token by token.
type Forecast struct {
	Now           time.Time `json:"now" doc:"The store's time, by which it was planned (RFC 3339, UTC)."`
	AllowanceLeft int       `json:"allowance_left" doc:"How many more tokens may be narrowed or deleted for being unused in these 24 hours."`
	Items         []Coming  `json:"items" nullable:"false" doc:"The tokens that something is to come for."`
	NextCursor    string    `json:"next_cursor,omitempty" doc:"Asks for the next page; absent on the last one. A page may be short, and even empty, before that."`
}

// Coming is what is to come for one token.
type Coming struct {
	TokenID   token.ID `json:"token_id" doc:"The token."`
	Name      string   `json:"name" doc:"The token's name."`
	AccountID token.ID `json:"account_id" doc:"The account that it belongs to."`
	Policy    string   `json:"policy" doc:"The policy that it was planned by."`
	Actions   []Action `json:"actions" nullable:"false" doc:"In the order of time: what is to be done now, and what comes if nothing else happens until then."`
	Broken    string   `json:"broken,omitempty" doc:"Why nothing is planned: the token's records contradict themselves, and nobody looks after it until that is mended."`
}

// Action is one thing that is to come.
type Action struct {
	Kind      string     `json:"kind" doc:"What is done: notice_downgrade, notice_deletion, cancel_notice, downgrade, delete_unused, warn_expiry, expire, delete_expired, retire_secret, remind_rotation or purge." example:"delete_unused"`
	Due       time.Time  `json:"due" doc:"The earliest time for it, as far as can be told now (RFC 3339, UTC)."`
	WaitsFor  []string   `json:"waits_for" nullable:"false" doc:"What stands in its way: date, notice, coverage, blind, exemption, channel. Empty: it is to be done now."`
	Announces *time.Time `json:"announces" doc:"For a notice, a warning or a reminder, the date that it names (RFC 3339, UTC); null otherwise."`
	Takes     []string   `json:"takes" nullable:"false" doc:"The scopes that a downgrade takes; empty when read_write becomes read_only."`
	Access    string     `json:"access,omitempty" doc:"The access that is left after a downgrade." example:"read_only"`
	Scopes    []string   `json:"scopes" nullable:"false" doc:"The scopes that are left after a downgrade to custom."`
	SecretID  *token.ID  `json:"secret_id" doc:"The secret that retire_secret and remind_rotation are about; null otherwise."`
	Cause     string     `json:"cause,omitempty" doc:"Why a notice is called off: used, blind, exempted, not_active, ended, restarted, policy or moved."`
	Evidence  Evidence   `json:"evidence" doc:"Why it follows; the audit log keeps it."`
}

// Evidence is why something follows.
type Evidence struct {
	From             *time.Time `json:"from" doc:"When the window starts (RFC 3339, UTC); null: there is none."`
	To               *time.Time `json:"to" doc:"When it ends (RFC 3339, UTC)."`
	LastUse          *time.Time `json:"last_use" doc:"The end of the day in which what is taken was last used (RFC 3339, UTC); null: never."`
	Used             []string   `json:"used" nullable:"false" doc:"The scopes that were used in the window."`
	Unused           []string   `json:"unused" nullable:"false" doc:"The scopes that were not."`
	StretchedSeconds int64      `json:"stretched_seconds" doc:"How much longer the window is because no gateway was running."`
	BlindUntil       *time.Time `json:"blind_until" doc:"The end of the blind time that the window starts from (RFC 3339, UTC); null: of none."`
	KnownThrough     *time.Time `json:"known_through" doc:"Up to when all use was known (RFC 3339, UTC); null: nothing was."`
	NoticeGiven      *time.Time `json:"notice_given" doc:"When notice was given (RFC 3339, UTC); null: it was not."`
	NoticeAccepted   *time.Time `json:"notice_accepted" doc:"When the last copy of it was accepted (RFC 3339, UTC); null: not yet."`
}

func forecastOf(f *lifecycle.Forecast) Forecast {
	w := Forecast{Now: f.Now.UTC(), AllowanceLeft: f.Left, Items: []Coming{}, NextCursor: f.Cursor}
	for i := range f.List {
		c := &f.List[i]
		item := Coming{TokenID: c.Token.ID, Name: c.Token.Name, AccountID: c.Token.AccountID, Policy: c.Policy, Actions: []Action{}}
		for j := range c.Actions {
			item.Actions = append(item.Actions, actionOf(&c.Actions[j]))
		}
		if c.Broken != nil {
			item.Broken = c.Broken.Error()
		}
		w.Items = append(w.Items, item)
	}
	return w
}

func actionOf(a *token.Action) Action {
	w := Action{
		Kind: a.Kind.String(), Due: a.Due.UTC(), WaitsFor: a.Waits.Names(), Announces: timeOrNull(a.Announces),
		Takes: listOf(a.Scopes), Scopes: listOf(a.Grant.Scopes), Evidence: evidenceOf(&a.Evidence),
	}
	if a.Grant.Access != 0 {
		w.Access = a.Grant.Access.String()
	}
	if a.SecretID != "" {
		w.SecretID = &a.SecretID
	}
	if a.Cause != 0 {
		w.Cause = a.Cause.String()
	}
	return w
}

func evidenceOf(e *token.Evidence) Evidence {
	return Evidence{
		From: timeOrNull(e.From), To: timeOrNull(e.To), LastUse: timeOrNull(e.LastUse),
		Used: listOf(e.Used), Unused: listOf(e.Unused), StretchedSeconds: int64(e.Stretched / time.Second),
		BlindUntil: timeOrNull(e.BlindUntil), KnownThrough: timeOrNull(e.Through),
		NoticeGiven: timeOrNull(e.Notice.Created), NoticeAccepted: timeOrNull(e.Notice.Accepted),
	}
}

// PassReport is what a pass over all tokens did.
type PassReport struct {
	Ran     bool           `json:"ran" doc:"False when another gateway looks after the tokens at this moment: nothing was done here, and that one does it."`
	Holder  string         `json:"holder" doc:"The gateway that looks after the tokens; empty: none does at this moment."`
	Resting bool           `json:"resting" doc:"True while nothing is taken away, since the clock leapt or this was the first pass of all."`
	Tokens  int            `json:"tokens" doc:"How many tokens were looked at."`
	Done    map[string]int `json:"done" nullable:"false" doc:"How many actions of each kind were done."`
	Held    int            `json:"held" doc:"How many were kept back because too many were due at once."`
	PutBack int            `json:"put_back" doc:"How many were taken back since a late record showed that they were wrong."`
	Broken  int            `json:"broken" doc:"How many tokens have records that contradict themselves: nobody looks after them."`
}

func reportOf(r *lifecycle.Report, holder string) PassReport {
	w := PassReport{
		Ran: r.Holder, Holder: holder, Resting: r.Resting, Tokens: r.Tokens,
		Done: map[string]int{}, Held: r.Held, PutBack: r.PutBack, Broken: r.Broken,
	}
	for kind, n := range r.Done {
		w.Done[kind.String()] = n
	}
	return w
}

// Coverage is what is known of use, and what is not.
type Coverage struct {
	Now     time.Time  `json:"now" doc:"The store's time (RFC 3339, UTC)."`
	Since   *time.Time `json:"since" doc:"When observation began (RFC 3339, UTC); null: nothing was observed."`
	Through *time.Time `json:"through" doc:"Up to when all use is known (RFC 3339, UTC); null: nothing was observed."`
	Gaps    []Gap      `json:"gaps" nullable:"false" doc:"The times that were not observed, by their start."`
	Runs    []Run      `json:"runs" nullable:"false" doc:"The runs of gateways, by their start."`
}

// Gap is time that was not observed.
type Gap struct {
	From   time.Time  `json:"from" doc:"When it began (RFC 3339, UTC)."`
	To     *time.Time `json:"to" doc:"When it ended (RFC 3339, UTC); null: it goes on."`
	Blind  bool       `json:"blind" doc:"True when anything may have been used, so that every window starts anew at its end; false when no gateway was running, which makes windows longer."`
	Node   string     `json:"node,omitempty" doc:"The gateway that it is of."`
	Reason string     `json:"reason" doc:"Why." example:"lost"`
}

// Run is a gateway from one start to its end.
type Run struct {
	ID             token.ID   `json:"id" doc:"Names the run."`
	Node           string     `json:"node" doc:"The gateway."`
	State          string     `json:"state" enum:"serving,silent,stopped,lost,waived" doc:"serving; silent: not heard of lately, and it may still let requests pass without the store; stopped cleanly; lost, with what it saw last; or lost and retired."`
	StartedAt      time.Time  `json:"started_at" doc:"When it started (RFC 3339, UTC)."`
	CoveredThrough *time.Time `json:"covered_through" doc:"Up to when all that it saw has reached the store (RFC 3339, UTC); null: nothing has."`
	LastContact    *time.Time `json:"last_contact" doc:"When it last reached the store (RFC 3339, UTC)."`
	StoppedAt      *time.Time `json:"stopped_at" doc:"When it stopped cleanly (RFC 3339, UTC); null: it did not."`
	HoldsBack      bool       `json:"holds_back" doc:"Whether nothing after its covered_through can be acted on before it has told more."`
}

func coverageOf(o *lifecycle.Observation) Coverage {
	w := Coverage{Now: o.Now.UTC(), Since: timeOrNull(o.Since), Through: timeOrNull(o.Through), Gaps: []Gap{}, Runs: []Run{}}
	for _, g := range o.Gaps {
		w.Gaps = append(w.Gaps, Gap{From: g.From.UTC(), To: timeOrNull(g.To), Blind: g.Blind, Node: g.Node, Reason: g.Reason})
	}
	for i := range o.Runs {
		r := &o.Runs[i]
		w.Runs = append(w.Runs, Run{
			ID: r.ID, Node: r.Node, State: string(r.State), StartedAt: r.StartedAt.UTC(), CoveredThrough: timeOrNull(r.Covered),
			LastContact: timeOrNull(r.Contact), StoppedAt: timeOrNull(r.StoppedAt), HoldsBack: r.HoldsBack,
		})
	}
	return w
}
