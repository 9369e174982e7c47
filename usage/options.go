package usage

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Options say what a Recorder works with. Dir, Node, Run and Sink must be set.
type Options struct {
	Dir  string   // of the journal; one process at a time
	Node string   // the same after a restart
	Run  token.ID // of this incarnation: never used before
	Sink Sink

	// Sync makes a first use wait until it is on the disk. Otherwise it waits until
	// the operating system has it, which a killed process does not lose, and is on
	// the disk within a second.
	Sync bool
	// Degraded lets a gateway start without a journal that can be written: a blind
	// gap is open until it can. Without it Open refuses.
	Degraded bool
	// Required turns a use that could not be written into an error, so that the
	// request is refused instead of leaving a gap.
	Required bool

	// Bucket is the length of a bucket: a day, or less. It is asked often and may
	// change at any time. nil: a day.
	Bucket func() time.Duration
	// Alarm is told what an operator must know. It must not block for long and must
	// not call the Recorder. nil: nobody is told.
	Alarm func(Alarm)

	// WitnessDir is a directory in memory that outlives the process. By default
	// /dev/shm where there is one; "-" is none.
	WitnessDir string

	Now    func() time.Time
	Uptime func() time.Duration // of the machine, sleep included
	Boot   func() Boot
	Files  Files
	Rand   func() float64 // spreads retries

	// Interval is how often what was seen is handed over, less when buckets are
	// short; 5 s. CountInterval is the same for counts; a minute.
	Interval, CountInterval time.Duration
	SegmentSize             int64 // a segment is closed after; 4 MiB
	BatchSize               int   // facts, and counts, in a batch; 1000
	// MaxCells is how many counters are kept at most, at some 250 bytes each.
	// Beyond, requests are counted together. 262144.
	MaxCells int
	// MaxUnwritten is how many facts are kept in memory at most while the journal
	// cannot be written, at some 200 bytes each. Beyond, only the gap stands for
	// them. 262144.
	MaxUnwritten int
	// SyncInterval is how long what was written may wait to be on the disk; 1 s.
	SyncInterval time.Duration
	// Retry is how long to wait before writing is tried again; 1 s.
	Retry time.Duration
	// Watchdog is how long a disk may take before a gap is reported; 5 s.
	Watchdog time.Duration
}

// These are part of the promise, and no options.
const (
	// patience is how long a request waits for the journal at most.
	patience = 50 * time.Millisecond
	// syncPatience is the same when the journal waits for the disk.
	syncPatience  = 2 * time.Second
	patienceSteps = 10
	// heartbeat is how often the journal notes that the process lives.
	heartbeat = 10 * time.Second
	// clockBound is how far the wall clock may leave the uptime between two looks.
	clockBound = 2 * time.Second
	// watermarkInterval is how often a gateway that has nothing to tell tells that.
	watermarkInterval = 30 * time.Second
	// sinkTimeout ends a call of the sink that does not answer.
	sinkTimeout = 30 * time.Second
	// closePatience is how long closing waits for a disk that hangs.
	closePatience = 10 * time.Second

	shortestBucket = 100 * time.Millisecond
	longestBucket  = 24 * time.Hour
	maxRetryDelay  = time.Minute
)

func (o *Options) complete() error {
	switch {
	case o.Dir == "":
		return errors.New("usage: no directory for the journal")
	case o.Node == "" || len(o.Node) > 255:
		return errors.New("usage: a node needs a name of at most 255 bytes")
	case !plainID(o.Run):
		return errors.New("usage: the ID of the run must be made of letters, digits and '_'")
	case o.Sink == nil:
		return errors.New("usage: no sink")
	}
	if o.Bucket == nil {
		o.Bucket = func() time.Duration { return longestBucket }
	}
	if o.Alarm == nil {
		o.Alarm = func(Alarm) {}
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the one place where the default comes from
	}
	if o.Uptime == nil {
		o.Uptime = systemUptime(o.Now)
	}
	if o.Boot == nil {
		o.Boot = func() Boot { return systemBoot(o.Now()) }
	}
	if o.Files == nil {
		o.Files = DiskFiles()
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	switch o.WitnessDir {
	case "":
		o.WitnessDir = systemMemory()
	case "-":
		o.WitnessDir = ""
	}
	def(&o.Interval, 5*time.Second)
	def(&o.CountInterval, time.Minute)
	def(&o.SegmentSize, 4<<20)
	def(&o.BatchSize, 1000)
	def(&o.MaxCells, 1<<18)
	def(&o.MaxUnwritten, 1<<18)
	def(&o.SyncInterval, time.Second)
	def(&o.Retry, time.Second)
	def(&o.Watchdog, 5*time.Second)
	return nil
}

func def[T ~int | ~int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// plainID says whether an ID can be part of a file's name.
func plainID(id token.ID) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return id != "" && len(id) <= 100
}

// Alarm is something that an operator must know.
type Alarm struct {
	Kind  AlarmKind
	Since time.Time
	Err   error // what happened, if there is more to say
}

// AlarmKind is what an alarm is about.
type AlarmKind string

// The alarms. docs/operations.md says what to do about each.
const (
	JournalDamaged   AlarmKind = "journal_damaged"   // an earlier journal was damaged: a gap was reported
	JournalFailed    AlarmKind = "journal_failed"    // it cannot be written: a gap is open
	JournalHangs     AlarmKind = "journal_hangs"     // its disk does not answer: a gap is open
	JournalRecovered AlarmKind = "journal_recovered" // it is written again: the gap is over
	ClockSet         AlarmKind = "clock_set"         // a gap was reported
	StoreBehind      AlarmKind = "store_behind"      // the store does not take what was seen
	StoreCaughtUp    AlarmKind = "store_caught_up"   // it does again
	CountsDropped    AlarmKind = "counts_dropped"    // counters were lost; facts never are
)
