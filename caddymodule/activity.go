package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/usage"
)

// activity records what tokens are used for. It is pooled by the directory of its
// journal, which one process has at a time: while a reload changes the store's
// settings, the old runtime and the new one record into the same one.
type activity struct {
	node     string
	recorder *usage.Recorder
	bucket   atomic.Int64 // its length; 0: a day
	sink     *activitySink

	dir       string
	gates     sync.Mutex   // of the file of that name, and of unguarded
	unguarded map[any]bool // configurations that run without a gate

	mu     sync.Mutex
	alarms map[usage.AlarmKind]usage.Alarm // that have not been taken back
	told   func(usage.Alarm)
}

// activities holds what records, by directory.
var activities = caddy.NewUsagePool()

// activitySink hands over to whichever store is open.
type activitySink struct {
	mu       sync.RWMutex
	store    tokenstore.Store // nil: none is
	staleFor time.Duration

	known sync.Map // of *handedOver by the ID of a run

	// used has something in it once facts of use were handed over.
	used chan struct{}
}

// handedOver is how far a store is known to have got with a run.
type handedOver struct {
	run     token.Run
	covered time.Time
}

var errNoStore = fmt.Errorf("%w: no store is open", tokenstore.ErrUnavailable)

func (s *activitySink) write(ctx context.Context, f func(tx *tokenstore.Tx, staleFor time.Duration) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.store == nil {
		return errNoStore
	}
	return s.store.Write(ctx, func(tx *tokenstore.Tx) error { return f(tx, s.staleFor) })
}

// Begin implements usage.Sink.
func (s *activitySink) Begin(ctx context.Context, run token.Run) error {
	s.known.LoadOrStore(run.ID, &handedOver{run: run})
	return s.write(ctx, func(tx *tokenstore.Tx, staleFor time.Duration) error {
		run.StaleFor = staleFor
		return tx.BeginRun(run)
	})
}

// lost gives the time that the store has forgotten, since it was put back to an
// earlier state: facts that it had taken are gone, and nothing will tell them
// again. A run that it does not know any more is begun anew.
func (s *activitySink) lost(tx *tokenstore.Tx, id token.ID, staleFor time.Duration) ([]token.Gap, error) {
	value, ok := s.known.Load(id)
	if !ok {
		return nil, nil
	}
	h := value.(*handedOver)
	stored, err := tx.Run(id)
	from := stored.Covered
	switch {
	case errors.Is(err, tokenstore.ErrNotFound):
		run := h.run
		run.StaleFor = staleFor
		if err := tx.BeginRun(run); err != nil {
			return nil, err
		}
		from = run.StartedAt
	case err != nil:
		return nil, err
	case !from.Before(h.covered):
		return nil, nil
	}
	now, err := tx.Time()
	if err != nil {
		return nil, err
	}
	return []token.Gap{{From: from, To: now, Blind: true, Node: h.run.Node, Reason: "restored"}}, nil
}

// Commit implements usage.Sink.
func (s *activitySink) Commit(ctx context.Context, b token.Activity) error {
	var stored token.Run
	err := s.write(ctx, func(tx *tokenstore.Tx, staleFor time.Duration) error {
		lost, err := s.lost(tx, b.Run, staleFor)
		if err != nil {
			return err
		}
		whole := b // this may run more than once
		whole.Gaps = append(lost, b.Gaps...)
		if err := tx.PutActivity(whole); err != nil {
			return err
		}
		stored, err = tx.Run(b.Run)
		return err
	})
	if value, ok := s.known.Load(b.Run); ok && err == nil {
		value.(*handedOver).covered = stored.Covered // one goroutine at a time calls a sink
	}
	if err == nil && len(b.Facts) > 0 {
		select {
		case s.used <- struct{}{}:
		default: // whoever waits has not got to it yet
		}
	}
	return err
}

// End implements usage.Sink.
func (s *activitySink) End(ctx context.Context, run token.ID, stoppedAt time.Time) error {
	err := s.write(ctx, func(tx *tokenstore.Tx, staleFor time.Duration) error {
		lost, err := s.lost(tx, run, staleFor)
		if err != nil {
			return err
		}
		if len(lost) > 0 {
			if err := tx.PutActivity(token.Activity{Run: run, Gaps: lost}); err != nil {
				return err
			}
		}
		return tx.EndRun(run, stoppedAt)
	})
	if err == nil {
		s.known.Delete(run)
	}
	return err
}

// use hands over to a store from now on. How long a gateway goes on without the
// store only grows while it runs: what was true for a while must be waited for.
func (s *activitySink) use(store tokenstore.Store, staleFor time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store, s.staleFor = store, max(s.staleFor, staleFor)
}

// leave stops handing over to a store, if it is the one.
func (s *activitySink) leave(store tokenstore.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == store {
		s.store = nil
	}
}

// journalOptions are the settings of a journal.
type journalOptions struct {
	dir string
	// several says that the directory is one for many gateways on this machine:
	// each takes the first one below it that no other process has.
	several bool
	sync    bool
}

// maxJournals is how many gateways of one machine can share a store.
const maxJournals = 64

// acquireActivity opens the journal of a directory, or joins whoever has it open
// in this process, and makes the run known to the store.
func acquireActivity(ctx context.Context, o journalOptions, store tokenstore.Store, staleFor time.Duration) (*activity, error) {
	value, _, err := activities.LoadOrNew(o.dir, func() (caddy.Destructor, error) { return openFree(o) })
	if err != nil {
		return nil, err
	}
	a := value.(*activity)
	a.sink.use(store, staleFor)
	if err := a.refresh(ctx, store); err != nil {
		return nil, errors.Join(err, releaseActivity(o.dir))
	}
	// It goes on being tried, and the journal keeps what is seen until then.
	_ = a.recorder.Start(ctx)
	return a, nil
}

func releaseActivity(dir string) error {
	_, err := activities.Delete(dir)
	return err
}

// openFree opens the journal of the directory, or the first below it that is free.
func openFree(o journalOptions) (*activity, error) {
	if !o.several {
		return openActivity(o)
	}
	for i := 1; ; i++ {
		one := o
		one.dir = filepath.Join(o.dir, strconv.Itoa(i))
		a, err := openActivity(one)
		if i == maxJournals || !errors.Is(err, usage.ErrLocked) {
			return a, err
		}
	}
}

func openActivity(o journalOptions) (*activity, error) {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the journal: %w", err)
	}
	node, err := nodeName(o.dir)
	if err != nil {
		return nil, err
	}
	run, err := newID("run")
	if err != nil {
		return nil, fmt.Errorf("name this run: %w", err)
	}
	a := &activity{node: node, dir: o.dir, unguarded: map[any]bool{}, sink: &activitySink{used: make(chan struct{}, 1)}, alarms: map[usage.AlarmKind]usage.Alarm{}}
	a.recorder, err = usage.Open(usage.Options{
		Dir: o.dir, Node: node, Run: run, Sink: a.sink, Sync: o.sync, Bucket: a.length, Alarm: a.alarm,
	})
	if err != nil {
		return nil, fmt.Errorf("open the journal of activity: %w", err)
	}
	return a, nil
}

// nodeFile keeps the name of a node from one start to the next.
const nodeFile = "node"

// nodeName reads the name of the node that a directory belongs to, or makes one.
// The journal's lock, which is taken later, keeps two from working under one name.
func nodeName(dir string) (string, error) {
	path := filepath.Join(dir, nodeFile)
	text, err := os.ReadFile(path)
	if err == nil {
		name := strings.TrimSpace(string(text))
		if !strings.HasPrefix(name, "node_") || len(name) > 64 {
			return "", fmt.Errorf("the file %s does not hold the name of a node: remove it, and the next start makes another", path)
		}
		return name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the name of this node: %w", err)
	}
	id, err := newID("node")
	if err != nil {
		return "", fmt.Errorf("name this node: %w", err)
	}
	if err := os.WriteFile(path, []byte(string(id)+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the name of this node: %w", err)
	}
	return string(id), nil
}

// length is that of a bucket, which the policies decide.
func (a *activity) length() time.Duration {
	if d := a.bucket.Load(); d > 0 {
		return time.Duration(d)
	}
	return 24 * time.Hour
}

// refresh reads the length of a bucket from the policies: the shortest of them.
func (a *activity) refresh(ctx context.Context, store tokenstore.Store) error {
	return store.Read(ctx, func(tx *tokenstore.Tx) error {
		policies, err := tx.Policies()
		if err != nil {
			return err
		}
		a.bucket.Store(int64(token.ShortestBucket(policies)))
		a.recorder.Rebucket()
		return nil
	})
}

func (a *activity) alarm(alarm usage.Alarm) {
	a.mu.Lock()
	switch alarm.Kind {
	case usage.JournalRecovered:
		delete(a.alarms, usage.JournalFailed)
		delete(a.alarms, usage.JournalHangs)
	case usage.StoreCaughtUp:
		delete(a.alarms, usage.StoreBehind)
	case usage.JournalFailed, usage.JournalHangs, usage.StoreBehind, noGate:
		a.alarms[alarm.Kind] = alarm
	default: // it has passed already
	}
	told := a.told
	a.mu.Unlock()
	if told != nil {
		told(alarm)
	}
}

// tell has alarms told to somebody from now on: the logger of the configuration
// that runs.
func (a *activity) tell(told func(usage.Alarm)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = told
}

// standing lists the alarms that have not been taken back.
func (a *activity) standing() []usage.Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []usage.Alarm
	for _, alarm := range a.alarms {
		list = append(list, alarm)
	}
	return list
}

// Destruct hands over what is left and closes the journal. It is called before the
// store that it hands over to is closed.
func (a *activity) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return a.recorder.Close(ctx)
}

// activityText says what an alarm means.
var activityText = map[usage.AlarmKind]string{
	usage.JournalDamaged:   "an earlier journal of activity was damaged: what it held counts as possibly used",
	usage.JournalFailed:    "the journal of activity cannot be written: until it can, every token counts as possibly used. Look at the disk that it is on",
	usage.JournalHangs:     "the disk that the journal of activity is on does not answer: until it does, every token counts as possibly used",
	usage.JournalRecovered: "the journal of activity is written again",
	usage.ClockSet:         "the clock was set: the time around it counts as possibly used",
	usage.StoreBehind:      "the store does not take activity: it is kept in the journal until it does",
	usage.StoreCaughtUp:    "the store takes activity again",
	noGate:                 "this gateway had a gate and its configuration has none: requests may pass that nobody records, and every token counts as possibly used",
	usage.CountsDropped:    "counts of requests were lost; what was used is known all the same",
}

func (a *App) logActivity(alarm usage.Alarm) {
	log := a.logger.Error
	if alarm.Kind == usage.JournalRecovered || alarm.Kind == usage.StoreCaughtUp {
		log = a.logger.Info
	}
	log(activityText[alarm.Kind], zap.String("alarm", string(alarm.Kind)), zap.Time("since", alarm.Since), zap.Error(alarm.Err))
}

// check says how recording stands.
func (a *activity) check() api.Check {
	check := api.Check{Name: "activity", Status: api.Ready}
	for _, alarm := range a.standing() {
		check.Status = api.Degraded
		check.Detail = "Since " + alarm.Since.UTC().Format(time.RFC3339) + ": " + activityText[alarm.Kind] + "."
	}
	return check
}
