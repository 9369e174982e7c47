package postgres

import (
	"context"
	"time"
)

// Pause is how a node holds back from a server that refuses it.
type Pause struct{ p pause }

func NewPause(now func() time.Time) *Pause { return &Pause{pause{now: now}} }
func (p *Pause) Try() error                { return p.p.before(context.Background(), nil) }
func (p *Pause) Failed()                   { p.p.failed() }
func (p *Pause) Succeeded() error          { return p.p.after(context.Background(), nil) }

// IsRefusal says that an error tells what became of a commit.
func IsRefusal(err error) bool { return isRefusal(err) }
