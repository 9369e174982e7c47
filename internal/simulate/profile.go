package simulate

import (
	"math/rand/v2"
	"time"
)

// Profile is a kind of fleet: how large it is, how it is used, and how often
// everything goes wrong. Every profile knows every fault. Where faults are
// frequent, windows start anew so often that little comes to its end; where they
// are rare, much is taken, and each act is judged.
type Profile struct {
	Name   string
	Tokens int // at a time
	Days   int // that a fleet lives
	// Storm is the least and the most of days between two lulls.
	Storm [2]int
	// Rates are how often a fault strikes a day, or one gateway a day.
	Rates map[Count]float64
	// The chances of a pass, and that a gateway does not tell at a step, and that a
	// copy is not taken.
	Killed, Twice, Interleaved, Silent, Refused float64
	// Surprised is the chance that the next step leads to a date at which one gateway
	// has seen a use that it did not tell.
	Surprised float64
	// Strides are the times from one step to the next. The lifecycle rests when two
	// passes are more than 48 hours apart.
	Strides []time.Duration
	// Edgy is the share of habits that come to an end just before or after something
	// would happen. The rest are regular.
	Edgy float64
	// Idle is the share of tokens that nobody ever uses.
	Idle float64
	// Accounts are the policies that they have, by their order in drawPolicies.
	Accounts []int
	// Short says that windows are of days, not weeks.
	Short bool
}

// Calm is a fleet in which most things work on most days.
func Calm() Profile {
	return Profile{
		Name: "calm", Tokens: 1000, Days: 800, Storm: [2]int{200, 500},
		Rates: map[Count]float64{
			Crashed: 0.005, PowerLost: 0.0003, DiskLost: 0.0002, Stopped: 0.01, CutOff: 0.01, ClockSet: 0.0003,
			Leapt: 0.001, MailDown: 0.004, Raised: 0.005, Paused: 0.003,
		},
		Killed: 0.05, Twice: 0.15, Interleaved: 0.1, Silent: 0.03, Refused: 0.03, Surprised: 0.1,
		Strides: []time.Duration{9 * time.Hour, 40 * time.Hour, 44 * time.Hour, 45 * time.Hour, 46 * time.Hour, 46 * time.Hour},
		Edgy:    0.2, Idle: 0.1, Accounts: []int{0, 1, 2, 3, 0, 1, 2, 0},
	}
}

// Stormy is a fleet in which something fails every few hours.
func Stormy() Profile {
	return Profile{
		Name: "stormy", Tokens: 400, Days: 700, Storm: [2]int{40, 160},
		Rates: map[Count]float64{
			Crashed: 0.017, PowerLost: 0.005, DiskLost: 0.0035, Stopped: 0.017, CutOff: 0.035, ClockSet: 0.005,
			Leapt: 0.007, MailDown: 0.017, Raised: 0.017, Paused: 0.005,
		},
		Killed: 0.15, Twice: 0.5, Interleaved: 0.3, Silent: 0.1, Refused: 0.1, Surprised: 0.15,
		Strides: []time.Duration{time.Hour, 8 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		Edgy:    0.8, Idle: 0.25, Accounts: []int{0, 1, 2, 3},
	}
}

// Brief is a fleet with windows of days, half of the time as stormy as Stormy.
func Brief() Profile {
	p := Stormy()
	p.Name, p.Tokens, p.Days, p.Short = "brief", 200, 300, true
	p.Strides = []time.Duration{20 * time.Minute, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour}
	for fault := range p.Rates {
		p.Rates[fault] /= 2
	}
	return p
}

// ProfileOf spreads the seeds over the profiles: of ten, seven are calm, two
// stormy and one brief.
func ProfileOf(seed uint64) Profile {
	switch seed % 10 {
	case 3, 7:
		return Stormy()
	case 5:
		return Brief()
	default:
		return Calm()
	}
}

// regular are the ways in which programs use tokens; edgy are those that come
// just before or after something would happen.
var (
	regular = []func(*rand.Rand) time.Duration{about(3 * day), about(7 * day), about(7 * day), about(12 * day)}
	edgy    = []func(*rand.Rand) time.Duration{
		about(day), about(7 * day), about(30 * day), about(12 * day),
		exactly(45 * day), exactly(38 * day), exactly(44*day + 23*time.Hour), exactly(45*day + time.Hour), exactly(29*day + 12*time.Hour),
		about(60 * day), about(47 * day), exactly(14 * day), exactly(3 * day),
	}
)

func about(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return d/2 + time.Duration(r.Int64N(int64(d))) }
}

// exactly is within two minutes.
func exactly(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration {
		return d + time.Duration(r.Int64N(int64(4*time.Minute))) - 2*time.Minute
	}
}

// habit draws one.
func (p *Profile) habit(r *rand.Rand) func(*rand.Rand) time.Duration {
	list := regular
	if r.Float64() < p.Edgy {
		list = edgy
	}
	return list[r.IntN(len(list))]
}
