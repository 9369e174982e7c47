package usage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/usage"
)

const (
	childDir    = "SALLYPORT_USAGE_CHILD"
	childRun    = "SALLYPORT_USAGE_RUN"
	childBucket = 150 * time.Millisecond
)

// wire is a sink that tells the parent what it is told, line by line.
type wire struct {
	mu  sync.Mutex
	out io.Writer
}

type message struct {
	Use    *used
	Begin  *token.Run
	Commit *token.Activity
	End    *token.Run
}

type used struct {
	N        int
	At, Done time.Time
}

func (w *wire) say(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.out.Write(append(b, '\n'))
	return err
}

func (w *wire) Begin(_ context.Context, r token.Run) error { return w.say(message{Begin: &r}) }

func (w *wire) Commit(_ context.Context, b token.Activity) error { return w.say(message{Commit: &b}) }

func (w *wire) End(_ context.Context, id token.ID, at time.Time) error {
	return w.say(message{End: &token.Run{ID: id, StoppedAt: at}})
}

// childMain is the process that is killed: it uses tokens as fast as it can, and
// tells of each use once it was let pass.
func childMain() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	w := &wire{out: os.Stdout}
	r, err := usage.Open(usage.Options{
		Dir: dir, Node: "node-1", Run: token.ID(os.Getenv(childRun)), Sink: w,
		Bucket:   func() time.Duration { return childBucket },
		Interval: 20 * time.Millisecond, SegmentSize: 8 << 10, SyncInterval: 20 * time.Millisecond,
		Sync: strings.HasSuffix(os.Getenv(childRun), "0"),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := r.Start(context.Background()); err != nil {
		os.Exit(1)
	}
	for range 4 {
		go func() {
			for {
				u := used{N: rand.IntN(200), At: time.Now().UTC()}
				q := usage.Request{
					TokenID: token.ID("tok_" + strconv.Itoa(u.N)), SecretID: token.ID("sec_" + strconv.Itoa(u.N)),
					Scope: token.ReadScope, Address: v4, At: u.At,
				}
				if r.Use(&q, true) != nil {
					os.Exit(1)
				}
				u.Done = time.Now().UTC()
				if w.say(message{Use: &u}) != nil {
					os.Exit(1)
				}
			}
		}()
	}
	select {}
}

// rounds is how often: a few times, or as SALLYPORT_ROUNDS says.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil {
		return n
	}
	return few
}

func TestNoAcknowledgedUseIsLostWhenProcessesAreKilled(t *testing.T) { // F1, S1
	dir := t.TempDir()
	store := newMemory()
	var uses []used
	tell := func(m message) {
		switch {
		case m.Use != nil:
			uses = append(uses, *m.Use)
		case m.Begin != nil:
			require.NoError(t, store.Begin(context.Background(), *m.Begin))
		case m.Commit != nil:
			require.NoError(t, store.Commit(context.Background(), *m.Commit))
		case m.End != nil:
			require.NoError(t, store.End(context.Background(), m.End.ID, m.End.StoppedAt))
		}
	}
	for round := range rounds(12) {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), childDir+"="+dir, childRun+"=run_"+strconv.Itoa(round))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		killer := time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = child.Process.Kill() })
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break // what was cut off was not acknowledged
			}
			var m message
			require.NoError(t, json.Unmarshal(line, &m))
			tell(m)
		}
		require.Error(t, child.Wait())
		killer.Stop()
		require.Contains(t, child.ProcessState.String(), "killed")
	}
	r, err := usage.Open(usage.Options{Dir: dir, Node: "node-1", Run: "run_last", Sink: store, Bucket: func() time.Duration { return childBucket }})
	require.NoError(t, err)
	require.NoError(t, r.Close(context.Background()))
	for _, u := range uses {
		// The bucket is that of a moment between asking and being let pass.
		length := usage.ClampBucket(childBucket)
		k := key{token.ID("tok_" + strconv.Itoa(u.N)), token.ID("sec_" + strconv.Itoa(u.N)), "read", u.At.Truncate(length)}
		_, ok := store.facts[k]
		for !ok && k.bucket.Before(u.Done) {
			k.bucket = k.bucket.Add(length)
			_, ok = store.facts[k]
		}
		// On a machine under load the disk may not have answered in time. Then a gap
		// must stand for the use.
		ok = ok || slices.ContainsFunc(store.allGaps(), func(g token.Gap) bool {
			return !u.Done.Before(g.From) && !u.At.After(g.To)
		})
		require.True(t, ok, "a use was lost: %+v", u)
	}
	require.Empty(t, store.broken)
	for _, g := range store.allGaps() {
		require.Equal(t, "journal disk did not answer", g.Reason, "a kill alone is not blind")
	}
	require.NotEmpty(t, uses)
	t.Logf("%d uses, %d facts, %d runs", len(uses), len(store.facts), len(store.runs))
	for id, run := range store.runs {
		require.False(t, run.StoppedAt.IsZero(), id)
	}
}
