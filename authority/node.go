package authority

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The verbs about gateways.
const (
	VerbListNodes  Verb = "node.list"
	VerbRetireNode Verb = "node.retire"
)

// NodeState is how a gateway is doing.
type NodeState string

// The states of a gateway.
const (
	NodeRunning NodeState = "running"
	// NodeSilent: it was not heard of for a while, and may still be letting
	// requests pass without the store.
	NodeSilent NodeState = "silent"
	// NodeLost: it lets nothing pass any more, and what it saw last is not known.
	NodeLost    NodeState = "lost"
	NodeStopped NodeState = "stopped" // cleanly
	NodeRetired NodeState = "retired" // lost, and that was accepted
)

// NodeView is a gateway as it reports itself and as its record of use shows it.
type NodeView struct {
	ID    string
	State NodeState
	// StartedAt is when it last started, and SeenAt when it last reported. Zero:
	// it is off the list of those that run.
	StartedAt, SeenAt time.Time
	Keys              map[string]string
	// Covered is up to when all that it saw has reached the store, and Contact
	// when its record last did. Zero: it never recorded.
	Covered, Contact time.Time
	// ServesUntil is, of a silent one, when it will have let the last request pass.
	ServesUntil time.Time
	// Lost is how many of its runs are lost and not retired.
	Lost int
}

// Nodes lists the gateways that have used the store, by ID.
func (a *Authority) Nodes(ctx context.Context, by By) ([]NodeView, error) {
	var list []NodeView
	err := a.see(ctx, by, VerbListNodes, anything, func(s *step) error {
		nodes, runs, now, err := s.nodes()
		list = viewNodes(nodes, runs, s.now, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// nodes reads the gateways, their runs, and the store's time, by which runs are judged.
func (s *step) nodes() ([]tokenstore.Node, []token.Run, time.Time, error) {
	nodes, err := s.tx.Nodes()
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	runs, err := s.tx.Runs()
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	now, err := s.tx.Time()
	return nodes, runs, now, err
}

// viewNodes joins reports and runs. reported is the time that reports are judged
// by, and now the store's, for runs.
func viewNodes(nodes []tokenstore.Node, runs []token.Run, reported, now time.Time) []NodeView {
	byID := map[string]*NodeView{}
	var ids []string
	view := func(id string) *NodeView {
		v := byID[id]
		if v == nil {
			v = &NodeView{ID: id, State: NodeStopped}
			byID[id] = v
			ids = append(ids, id)
		}
		return v
	}
	for i := range nodes {
		v := view(nodes[i].ID)
		v.StartedAt, v.SeenAt, v.Keys = nodes[i].StartedAt, nodes[i].SeenAt, nodes[i].Keys
	}
	for i := range runs { // by their start, so that the last one decides
		view(runs[i].Node).addRun(&runs[i], now)
	}
	slices.Sort(ids)
	list := make([]NodeView, len(ids))
	for i, id := range ids {
		v := byID[id]
		switch {
		case !v.SeenAt.IsZero() && reported.Sub(v.SeenAt) <= NodeLiveFor:
			v.State, v.ServesUntil = NodeRunning, time.Time{}
		case v.State == NodeStopped && v.Lost > 0:
			v.State = NodeLost // an earlier run of it
		case v.State == NodeStopped && !v.SeenAt.IsZero():
			// Its report would be gone if it had stopped cleanly.
			v.State = NodeLost
		}
		list[i] = *v
	}
	return list
}

func (v *NodeView) addRun(r *token.Run, now time.Time) {
	v.Covered, v.Contact = r.Covered, r.Contact
	v.State = stateOf(r, now)
	v.ServesUntil = time.Time{}
	switch v.State {
	case NodeSilent:
		v.ServesUntil, _ = r.Over(now)
	case NodeLost:
		v.Lost++
	default:
	}
}

// stateOf is how a gateway of one run is doing.
func stateOf(r *token.Run, now time.Time) NodeState {
	switch r.State(now) {
	case token.RunStopped:
		return NodeStopped
	case token.RunWaived:
		return NodeRetired
	case token.RunLost:
		return NodeLost
	case token.RunSilent:
		return NodeSilent
	default:
		return NodeRunning
	}
}

// RetireNode gives a gateway up that will not come back: what its runs saw and
// never handed over is accepted as lost, as if nothing had been used then, and it
// goes off the list. That is the one act by which something that was used may
// later be called unused, so that it is asked for twice: acceptGap where there is
// something to lose, and confirmed always. A gateway that runs, or may still be
// letting requests pass, is refused. Repeating it changes nothing.
func (a *Authority) RetireNode(ctx context.Context, by By, id string, acceptGap, confirmed bool) (NodeView, error) {
	var (
		out     NodeView
		nodes   []tokenstore.Node
		runs    []token.Run
		now     time.Time
		missing = refuse(ErrNotFound, "there is no such node; `node list` shows those that there are")
	)
	find := func(s *step) (target, error) {
		t := target{id: id}
		if !checkID(token.ID(id)) {
			return target{}, missing
		}
		var err error
		if nodes, runs, now, err = s.nodes(); err != nil {
			return t, err
		}
		nodes = slices.DeleteFunc(nodes, func(n tokenstore.Node) bool { return n.ID != id })
		runs = slices.DeleteFunc(runs, func(r token.Run) bool { return r.Node != id })
		if len(nodes) == 0 && len(runs) == 0 {
			return t, missing
		}
		return t, nil
	}
	err := a.change(ctx, by, VerbRetireNode, find, func(s *step) error {
		seen := viewNodes(nodes, runs, s.now, now)[0]
		for i := range runs {
			// Any of its runs that may go on would be called unused what it sees.
			if state := stateOf(&runs[i], now); state == NodeSilent && seen.State != NodeRunning {
				seen.State, seen.ServesUntil = state, silentUntil(&runs[i], now)
			}
		}
		switch seen.State {
		case NodeRunning:
			return refuse(ErrInvalidState, "the node is running: stop it first, which hands over all that it saw, so that nothing is lost")
		case NodeSilent:
			return refuse(ErrInvalidState, fmt.Sprintf(
				"the node was not heard of lately, and may still be letting requests pass without the store until %s: ask again then", seen.ServesUntil.UTC().Format(time.RFC3339)))
		default:
		}
		if seen.Lost == 0 && len(nodes) == 0 {
			out = seen
			return nil
		}
		if seen.Lost > 0 && !acceptGap {
			return invalid("accept_gap", "must be true: what the node let pass after "+blindFrom(runs, now).UTC().Format(time.RFC3339)+
				" has not reached the store, and will be taken for not used. If its journal can be saved, start the gateway on it instead")
		}
		if !confirmed {
			return refuse(ErrConfirmationRequired, "The node is about to be given up for good, with all that only it knows. Ask again with confirm to go on.")
		}
		before, after := fields{"state": seen.State, "lost_runs": seen.Lost}, fields{"state": NodeRetired, "lost_runs": 0}
		if seen.Lost > 0 {
			before["covered_through"] = stamp(blindFrom(runs, now))
		}
		for i := range runs {
			if stateOf(&runs[i], now) != NodeLost {
				continue
			}
			if err := s.tx.WaiveRun(runs[i].ID); err != nil {
				return err
			}
			runs[i].WaivedAt = now
		}
		if len(nodes) > 0 {
			if err := s.tx.DeleteNode(id); err != nil {
				return err
			}
		}
		out = NodeView{ID: id, State: NodeRetired}
		if len(runs) > 0 {
			out = viewNodes(nil, runs, s.now, now)[0]
			out.State = NodeRetired
		}
		return s.audit(before, after)
	})
	if err != nil {
		return NodeView{}, err
	}
	return out, nil
}

func silentUntil(r *token.Run, now time.Time) time.Time {
	at, _ := r.Over(now)
	return at
}

// blindFrom is up to when all is known that lost runs saw.
func blindFrom(runs []token.Run, now time.Time) time.Time {
	var from time.Time
	for i := range runs {
		if r := &runs[i]; stateOf(r, now) == NodeLost && (from.IsZero() || r.Covered.Before(from)) {
			from = r.Covered
		}
	}
	return from
}
