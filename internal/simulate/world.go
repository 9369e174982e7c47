package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/lifecycle"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/sqlite"
)

const day = 24 * time.Hour

// Config says what is simulated.
type Config struct {
	Seed    uint64
	Dir     string // for the store; it is best in memory
	Profile Profile
	// Drill lets every fault strike once in the first weeks, also where it is rare.
	Drill bool
}

// World is one fleet.
type World struct {
	Config
	Figures    Figures
	Violations []Violation

	r      *rand.Rand
	random *rand.ChaCha8
	lastID uint64

	start, now time.Time     // the true time
	leap       time.Duration // by which the store's clock is wrong
	leaptAt    time.Time     // when it last was
	leaptBy    time.Duration
	skewedAt   time.Time
	failedAt   time.Time     // when it was last asked what fails
	passed     time.Duration // since the time before
	drill      []Count       // that is still to come
	drilled    time.Time

	store  *sqlite.Store
	ring   *tokenstore.Ring
	people *authority.Authority
	outbox *Outbox

	nodes    []*node
	accounts []*account
	subjects []*subject // that are there, purged ones excepted
	byID     map[token.ID]*subject
	scopes   []token.Scope
	policies []token.Policy
	policyAt time.Time // when they last changed
	bucket   time.Duration

	given      map[token.ID]*given
	acts       []*act
	capped     []time.Time
	heard      int64 // the last audit entry that was read
	liveBefore int
	raised     int
	held       int       // by the allowance, at the last pass
	mailUntil  time.Time // down
	pause      time.Duration
	calm       bool
	tidied     time.Time
	dues       []due
	edge       *subject // whose date has come with this step
	regrets    []regret
}

// account is a customer and what is known of it.
type account struct {
	id       token.ID
	version  int64
	policy   string
	disabled bool
	enabled  time.Time
}

// subject is a token, as it is stored, and how its owner uses it.
type subject struct {
	id, secret token.ID
	account    *account
	seen
	version   int64
	created   time.Time
	enabledAt time.Time
	levelAt   time.Time // when a person last gave it permissions
	// narrowedAt is when the lifecycle last changed them.
	narrowedAt time.Time
	exempt     time.Time
	habits     []habit
	until      time.Time // when nobody needs it any more
	purged     bool
	requests   []*request
}

// due is a date that was announced to the owners of a token.
type due struct {
	at time.Time
	of token.ID
}

// habit is what somebody does with a token again and again.
type habit struct {
	scope int
	every func(*rand.Rand) time.Duration
	next  time.Time
}

var operator = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "kim"}}

var declarer = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "caddyfile", Verified: true}}

// New builds a fleet. Close it.
func New(ctx context.Context, c Config) (*World, error) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(c.Seed >> (8 * i))
	}
	w := &World{
		Config: c, r: rand.New(rand.NewPCG(c.Seed, 1)), random: rand.NewChaCha8(key),
		start: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		byID:  map[token.ID]*subject{}, given: map[token.ID]*given{}, bucket: day,
		Figures: Figures{Counts: map[Count]int{}},
	}
	w.now, w.failedAt, w.drilled, w.tidied = w.start, w.start, w.start, w.start
	if c.Drill {
		w.drill = drills
	}
	var err error
	if w.ring, err = tokenstore.NewRing(w.random); err != nil {
		return nil, err
	}
	w.store, err = sqlite.Open(ctx, w.path(), sqlite.Options{
		Ring: w.ring, Now: w.storeNow, Random: w.random, Readers: 1,
	})
	if err != nil {
		return nil, err
	}
	w.people = w.authority(w.store)
	w.outbox = &Outbox{NewID: w.newID, Recipients: []string{"ada@example.com", "bob@example.com"}, Told: w.expect}
	if err := w.settleIn(ctx); err != nil {
		return nil, errors.Join(err, w.store.Close())
	}
	return w, nil
}

// Close ends the run.
func (w *World) Close() error { return w.store.Close() }

// Remove takes the store off the disk, after Close.
func (w *World) Remove() error { return os.Remove(w.path()) }

func (w *World) path() string { return filepath.Join(w.Dir, fmt.Sprintf("fleet-%d.db", w.Seed)) }

func (w *World) storeNow() time.Time { return w.now.Add(w.leap) }

func (w *World) id(prefix string) token.ID {
	w.lastID++
	return token.ID(fmt.Sprintf("%s_%016d", prefix, w.lastID))
}

func (w *World) newID(prefix string) (token.ID, error) { return w.id(prefix), nil }

func (w *World) authority(s tokenstore.Store) *authority.Authority {
	return &authority.Authority{Store: s, Ring: w.ring, Prefixes: []string{"sp"}, Now: w.storeNow, Random: w.random, NewID: w.newID}
}

func (w *World) chance(p float64) bool { return w.r.Float64() < p }

// settleIn makes what there is on the first day.
func (w *World) settleIn(ctx context.Context) error {
	if err := w.people.EnsureKeys(ctx, declarer); err != nil {
		return err
	}
	for _, name := range []string{"invoices", "payments", "customers"} {
		w.scopes = append(w.scopes,
			token.Scope{Name: name + ":read", Nature: token.Read}, token.Scope{Name: name + ":write", Nature: token.Write})
	}
	w.policies = w.drawPolicies()
	if err := w.declare(ctx); err != nil {
		return err
	}
	for _, i := range w.Profile.Accounts {
		p := w.policies[i].Name
		a, err := w.people.CreateAccount(ctx, operator, authority.NewAccount{Name: "Castle Supplies", Policy: p})
		if err != nil {
			return err
		}
		w.accounts = append(w.accounts, &account{id: a.ID, version: a.Version, policy: p})
	}
	for i := range 2 + w.r.IntN(3) {
		n := &node{name: fmt.Sprintf("node-%d", i+1), stale: time.Duration(w.r.IntN(5)) * 6 * time.Hour}
		w.nodes = append(w.nodes, n)
		w.boot(n)
		if err := w.drain(n); err != nil {
			return err
		}
	}
	for range w.wanted() {
		if err := w.newToken(ctx); err != nil {
			return err
		}
	}
	return w.follow()
}

// wanted is how many tokens there are to be: the fleet fills up in some months, so
// that not all windows end on one day.
func (w *World) wanted() int {
	full := 0.25 + w.now.Sub(w.start).Hours()/24/120
	return int(min(1, full) * float64(w.Profile.Tokens))
}

// drawPolicies takes the windows that vendors have, and in some fleets short ones.
func (w *World) drawPolicies() []token.Policy {
	make := func(name string, remove, narrow, notice, restore time.Duration) token.Policy {
		p := token.DefaultPolicy()
		p.Name, p.RequireAllowList, p.Confirm, p.Editable = name, token.AllowListNever, nil, token.EditableFields()
		p.DeleteUnused, p.DowngradeUnused, p.Notice, p.RestoreWindow = remove, narrow, notice, restore
		return p
	}
	list := []token.Policy{
		make("usual", 45*day, 45*day, 7*day, 30*day),
		make("strict", 30*day, 14*day, 7*day, 25*day),
		make("narrowing", 0, 30*day, 7*day, 30*day),
		make("mortal", 45*day, 45*day, 7*day, 30*day),
	}
	list[3].MaxLifetime, list[3].DeleteExpiredAfter = 270*day, time.Duration(w.r.IntN(2))*10*day
	if w.Profile.Short {
		list[1] = make("strict", 3*day, 2*day, 12*time.Hour, 2*day)
		w.bucket = time.Hour // a 45th of the shortest window, as a whole part of a day
	}
	return list
}

func (w *World) declare(ctx context.Context) error {
	return w.people.Declare(ctx, declarer, authority.Declarations{Policies: w.policies, Scopes: w.scopes})
}

func (w *World) policyOf(s *subject) *token.Policy {
	for i := range w.policies {
		if w.policies[i].Name == s.account.policy {
			return &w.policies[i]
		}
	}
	return nil
}

// Run lets the time pass. It ends early when a rule was broken.
func (w *World) Run(ctx context.Context) error {
	end := w.start.Add(time.Duration(w.Profile.Days) * day)
	for w.now.Before(end) && len(w.Violations) == 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		least, most := w.Profile.Storm[0], w.Profile.Storm[1]
		if err := w.storm(ctx, time.Duration(least+w.r.IntN(most-least+1))*day, end); err != nil {
			return err
		}
		if len(w.Violations) > 0 || !w.now.Before(end) {
			break
		}
		if err := w.lull(ctx); err != nil {
			return err
		}
	}
	if err := w.compare(); err != nil {
		return err
	}
	report, err := w.people.VerifyAudit(ctx, operator, nil)
	if err != nil {
		return err
	}
	for _, p := range report.Problems {
		w.violated("I7", "the audit log: %v", p)
	}
	return nil
}

// storm is a time in which everything goes wrong.
func (w *World) storm(ctx context.Context, length time.Duration, end time.Time) error {
	w.calm = false
	for until := w.now.Add(length); w.now.Before(until) && w.now.Before(end) && len(w.Violations) == 0; {
		if err := w.fail(); err != nil {
			return err
		}
		if err := w.act(ctx); err != nil {
			return err
		}
		if w.chance(w.Profile.Surprised) {
			if done, err := w.surprise(ctx); done || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := w.step(ctx, w.stride()); err != nil {
			return err
		}
	}
	return nil
}

// stride is how far it is to the next step. What takes longer than a scheduler
// trusts is stepped through in hours; else some steps end at a date that was
// announced, where a second decides.
func (w *World) stride() time.Duration {
	w.edge = nil
	if w.pause > 0 {
		d := w.pause
		w.pause = 0
		return d
	}
	if w.leap != 0 {
		return []time.Duration{time.Hour, 3 * time.Hour, 8 * time.Hour}[w.r.IntN(3)]
	}
	d := w.Profile.Strides[w.r.IntN(len(w.Profile.Strides))]
	if w.chance(0.3) {
		return w.toDate(d)
	}
	return d
}

// toDate is the way to the last announced date before a stride is over, give or
// take a few seconds, or up to some minutes later: by the clocks of all gateways it
// must be over.
func (w *World) toDate(d time.Duration) time.Duration {
	kept := w.dues[:0]
	var last due
	for _, at := range w.dues {
		if at.at.Before(w.now.Add(time.Minute)) {
			continue
		}
		kept = append(kept, at)
		if !at.at.After(w.now.Add(d)) && at.at.After(last.at) {
			last = at
		}
	}
	w.dues = kept
	if last.at.IsZero() {
		return d
	}
	w.edge = w.byID[last.of]
	return last.at.Sub(w.now) + time.Duration(w.r.IntN([]int{10, 240}[w.r.IntN(2)])-4)*time.Second
}

// expect notes what people are told is to come.
func (w *World) expect(m *notify.Message) {
	if !m.Facts.Due.IsZero() && len(w.dues) < 4*w.Profile.Tokens {
		w.dues = append(w.dues, due{m.Facts.Due, m.TokenID})
	}
}

// lull is a time in which nothing goes wrong and nobody changes anything, at the
// end of which all that was due must be done.
func (w *World) lull(ctx context.Context) error {
	if err := w.repair(); err != nil {
		return err
	}
	w.calm, w.edge = true, nil
	since := w.now
	// Longest window, notice, and what the steps take; longer while the allowance is
	// all that holds something back, as it may.
	const enough, most = (45 + 10 + 18) * day, 200 * day
	for w.now.Sub(since) < enough || w.held > 0 && w.now.Sub(since) < most {
		d := 40 * time.Hour
		if w.held > 0 || w.Profile.Short {
			d = day
		}
		if err := w.step(ctx, d); err != nil || len(w.Violations) > 0 {
			return err
		}
	}
	w.failedAt = w.now
	restarted, err := w.blindSince(ctx, since.Add(2*day))
	if err != nil {
		return err
	}
	if restarted {
		w.count(Unjudged)
	} else {
		w.count(Lulls)
		w.progress(since)
	}
	return w.compare()
}

// blindSince says whether every window started anew after a time: the last contact
// of a lost gateway may have been written by a clock that was ahead, and ends its
// blind time only when that time has come.
func (w *World) blindSince(ctx context.Context, at time.Time) (bool, error) {
	o, err := w.keeper().Coverage(ctx)
	for _, g := range o.Gaps {
		if g.Blind && g.To.After(at) {
			return true, err
		}
	}
	return false, err
}

// step lets some time pass: requests come, gateways tell what they saw, mail goes
// out, schedulers pass.
func (w *World) step(ctx context.Context, d time.Duration) error {
	from := w.now
	w.now = w.now.Add(d)
	years := float64(w.live()) * d.Hours() / 24 / 365.25
	if w.calm {
		w.Figures.CalmYears += years
	} else {
		w.Figures.TokenYears += years
	}
	w.requests(from)
	for _, n := range w.nodes {
		if err := w.tell(n); err != nil {
			return err
		}
	}
	// What happens between the telling and the pass.
	w.now = w.now.Add(time.Duration(1+w.r.IntN(3)) * time.Second)
	if w.chance(0.3) || w.edge != nil && w.chance(0.5) {
		w.requestNow()
	}
	passed, err := w.passes(ctx)
	if err != nil {
		return err
	}
	if err := w.mail(ctx); err != nil {
		return err
	}
	w.settle(passed)
	if w.now.Sub(w.tidied) < 30*day {
		return nil
	}
	w.tidied = w.now
	if err := w.compare(); err != nil {
		return err
	}
	w.forget()
	return w.prune(ctx)
}

// tell lets a gateway tell what it saw, unless it is silent. One that is, or has lost
// the store, has seen what nobody knows: best a use of the very token whose date has
// come.
func (w *World) tell(n *node) error {
	if n.silent {
		if n.connected {
			return w.touch(n)
		}
		return nil
	}
	silent := w.Profile.Silent
	if w.edge != nil {
		silent += 0.3
	}
	if w.calm || n.connected && !w.chance(silent) {
		return w.drain(n)
	}
	if w.edge != nil {
		w.ask(n, w.edge, w.r.IntN(len(w.scopes)), w.now.Add(-time.Duration(w.r.IntN(2)*w.r.IntN(180))*time.Minute))
	}
	return nil
}

// live is how many tokens are active or disabled.
func (w *World) live() int {
	n := 0
	for _, s := range w.subjects {
		if s.state == token.Active || s.state == token.Disabled {
			n++
		}
	}
	return n
}

// prune removes copies that are done and old, sooner than a gateway does: the run is
// to stay fast.
func (w *World) prune(ctx context.Context) error {
	return w.store.Write(ctx, func(tx *tokenstore.Tx) error {
		_, _, err := tx.PruneNotices("", w.now.Add(-60*day), 10_000)
		return err
	})
}

// requests lets everybody do what they usually do, in the order of time at each token.
func (w *World) requests(from time.Time) {
	for _, s := range w.subjects {
		for i := range s.habits {
			for h := &s.habits[i]; h.next.Before(w.now); h.next = h.next.Add(h.every(w.r)) {
				if h.next.Before(from) || h.next.After(s.until) {
					continue
				}
				w.ask(w.somewhere(h.next), s, h.scope, h.next)
			}
		}
	}
}

// somewhere is a gateway that answers, if one does.
func (w *World) somewhere(at time.Time) *node {
	first := w.r.IntN(len(w.nodes))
	for i := range w.nodes {
		if n := w.nodes[(first+i)%len(w.nodes)]; w.serves(n, at) {
			return n
		}
	}
	return w.nodes[first]
}

// requestNow is a request that nobody was told of yet when a scheduler comes along.
func (w *World) requestNow() {
	if len(w.subjects) > 0 {
		s := w.subjects[w.r.IntN(len(w.subjects))]
		if w.edge != nil {
			s = w.edge
		}
		w.ask(w.somewhere(w.now), s, w.r.IntN(len(w.scopes)), w.now)
	}
}

// passes lets schedulers pass, one or two at a time, which are killed now and then.
func (w *World) passes(ctx context.Context) (passed bool, err error) {
	w.liveBefore = w.live()
	n := 1
	if w.chance(w.Profile.Twice) {
		w.count(Twice)
		n = 2
	}
	for range n {
		ok, err := w.pass(ctx, 0)
		passed = passed || ok
		if err != nil {
			return passed, err
		}
	}
	return passed, w.follow()
}

func (w *World) pass(ctx context.Context, depth int) (passed bool, err error) {
	s := &shaken{Store: w.store, left: -1, how: death(w.r.IntN(3))}
	if !w.calm && w.chance(w.Profile.Killed) {
		s.left = w.r.IntN(8)
	}
	var inner error
	// Where in the pass it is does not matter to a draw at each transaction.
	interleaves := !w.calm && depth == 0 && w.chance(w.Profile.Interleaved)
	s.between = func() {
		if !interleaves || inner != nil || !w.chance(0.15) {
			return
		}
		interleaves = w.chance(0.3)
		w.count(Interleaved)
		switch w.r.IntN(3) {
		case 0: // the other one waits
			_, inner = w.pass(ctx, depth+1)
		case 1: // this one was away for so long that the other one takes over
			w.now = w.now.Add(2 * time.Minute)
			_, inner = w.pass(ctx, depth+1)
		default: // a request comes in between, and is told of
			w.requestNow()
			for _, n := range w.nodes {
				inner = errors.Join(inner, w.drain(n))
			}
		}
	}
	k := &lifecycle.Keeper{
		Store: s, Authority: w.authority(s), Teller: w.outbox, NewID: w.newID,
		Holder: w.nodes[w.r.IntN(len(w.nodes))].name, Raised: w.raised, Page: []int{64, 500, 2000, 2000}[w.r.IntN(4)],
		Alarm: func(a lifecycle.Alarm) {
			if a.Kind == "broken" || a.Kind == "lost_use" {
				w.violated("broken", "%s", a.Text)
			}
		},
	}
	report, err := k.Pass(ctx)
	w.count(Passes)
	if report.Holder {
		w.held = report.Held
		w.Figures.Counts[Held] += report.Held
	}
	switch {
	case inner != nil:
		return false, inner
	case s.dead:
		w.count(Killed)
		return false, nil
	case errors.Is(err, lifecycle.ErrLost):
		return false, nil
	case err != nil:
		return false, err
	}
	return report.Holder, nil
}

// forecast asks what is to come for a token.
func (w *World) forecast(id token.ID) (lifecycle.Forecast, error) {
	return w.keeper().Forecast(context.Background(), lifecycle.Options{TokenID: id})
}

// keeper is one that is only asked.
func (w *World) keeper() *lifecycle.Keeper {
	return &lifecycle.Keeper{Store: w.store, Authority: w.people, Teller: w.outbox, NewID: w.newID}
}

// mail lets the relay take what it takes.
func (w *World) mail(ctx context.Context) error {
	down := !w.calm && w.now.Before(w.mailUntil)
	accepted, err := w.outbox.Deliver(ctx, w.store, func(*tokenstore.Notice) bool {
		taken := !down && (w.calm || !w.chance(w.Profile.Refused))
		if !taken && !down {
			w.count(MailRefused)
		}
		return taken
	})
	for _, n := range accepted {
		w.count(Accepted)
		if n.PlanID == "" {
			continue
		}
		g := w.given[n.PlanID]
		if g == nil {
			g = &given{}
			w.given[n.PlanID] = g
		}
		// The relay's answer, by the true time; what comes after the notice itself
		// (that it was called off) makes no difference any more.
		g.copies++
		if g.copies <= len(w.outbox.Recipients) {
			g.last = w.now
		}
	}
	return err
}
