package postgres

import (
	"context"
	"time"
)

// Pause is how a node holds back from a server that refuses it.
type Pause struct{ p *pause }

func NewPause(now func() time.Time) *Pause   { return &Pause{newPause(now)} }
func (p *Pause) Try() error                  { return p.p.before(context.Background(), nil) }
func (p *Pause) Failed()                     { p.FailedSince(p.p.now()) }
func (p *Pause) FailedSince(began time.Time) { p.p.failed(began, false) }
func (p *Pause) Refused()                    { p.p.failed(p.p.now(), true) }
func (p *Pause) Succeeded() error            { return p.p.after(context.Background(), nil) }
func (p *Pause) Answered(asked time.Time)    { p.p.answered(asked) }
func (p *Pause) Returned() <-chan struct{}   { return p.p.returned }

// IsRefusal says that an error tells what became of a commit.
func IsRefusal(err error) bool { return isRefusal(err) }
