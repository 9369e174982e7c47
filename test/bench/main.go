// Command bench measures what the gate costs: the shipped program with the gate
// beside the same program with a plain reverse_proxy, interleaved in rounds, each
// round paired, so that a noisy machine disturbs both alike. With -revocations it
// measures a fleet on one Postgres instead, and with -kills what is lost of the
// record of use when gateways are killed. See docs/performance.md.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/test/bench/fleet"
	"github.com/sallyport/sallyport/test/bench/loss"
	"github.com/sallyport/sallyport/test/bulk"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
)

var (
	binary  = flag.String("binary", "./sallyport", "the program to measure")
	seconds = flag.Int("seconds", 5, "length of one round")
	rounds  = flag.Int("rounds", 4, "paired rounds for each row")
	counts  = flag.String("tokens", "1,100000,1000000", "numbers of tokens to measure with")
	clients = flag.Int("clients", 64, "connections that the load generator keeps open")

	revocations = flag.Int("revocations", 0, "measure three gateways on one Postgres, with so many revocations, and as many without notifications")
	outage      = flag.Duration("outage", time.Minute, "with -revocations: how long the store is gone")

	kills = flag.Int("kills", 0, "kill gateways under load so many times, in each of four settings, and look for uses that are not in the record")
	seed  = flag.Uint64("seed", 1, "with -kills: of the moments and the requests")
)

func main() {
	flag.Parse()
	log.SetFlags(0)
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	if runtime.GOOS != "linux" {
		return errors.New("CPU time is read from /proc: run it on Linux")
	}
	if *revocations > 0 {
		return runFleet(ctx, out)
	}
	if *kills > 0 {
		return runLoss(ctx, out)
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is missing (Debian: apt-get install wrk)")
	}
	upstream, err := startUpstream()
	if err != nil {
		return err
	}
	plain, err := startGateway(ctx, "plain", upstream, 0)
	if err != nil {
		return err
	}
	defer plain.stop()
	_, _ = fmt.Fprintf(out, "%d connections, %d paired rounds of %d s; ratios are gate / plain reverse_proxy of the same binary\n\n", *clients, *rounds, *seconds)
	_, _ = fmt.Fprintln(out, "| tokens | CPU a request | added CPU | requests a second | p50 | p99 | resident |")
	_, _ = fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	for _, text := range strings.Split(*counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-tokens: %w", err)
		}
		row, err := measure(ctx, plain, upstream, n)
		if err != nil {
			return fmt.Errorf("%d tokens: %w", n, err)
		}
		_, _ = fmt.Fprintln(out, row)
	}
	return nil
}

func runFleet(ctx context.Context, out io.Writer) error {
	return onPostgres(ctx, func(ctx context.Context, server *pgtest.Server, progress func(string)) error {
		figures, err := fleet.Measure(ctx, fleet.Options{
			Binary: *binary, Server: server, Revocations: *revocations,
			Streams: max(*revocations/100, 5), Known: 1000, Outage: *outage, Stale: 5 * time.Second, Rounds: 5,
			Progress: progress,
		})
		if figures != nil {
			_, _ = io.WriteString(out, figures.Table())
		}
		return err
	})
}

// onPostgres measures what needs a server. Whoever has seen enough gets what there is.
func onPostgres(ctx context.Context, measure func(context.Context, *pgtest.Server, func(string)) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	server, end, err := pgtest.ForProgram()
	if err != nil {
		return err
	}
	defer end()
	began := time.Now()
	return measure(ctx, server, func(what string) { log.Printf("%7.1f s  %s", time.Since(began).Seconds(), what) })
}

// runLoss kills gateways on both stores, with both kinds of journal.
func runLoss(ctx context.Context, out io.Writer) error {
	return onPostgres(ctx, func(ctx context.Context, server *pgtest.Server, progress func(string)) error {
		_, _ = io.WriteString(out, loss.Head())
		for _, store := range []*pgtest.Server{nil, server} {
			for _, journal := range []string{"fast", "sync"} {
				figures, err := loss.Measure(ctx, loss.Options{
					Binary: *binary, Server: store, Gateways: 3, Journal: journal, Kills: *kills, Workers: 4, Tokens: 4000,
					Seed: *seed, Life: 2 * time.Second, Progress: progress,
				})
				if figures != nil {
					_, _ = io.WriteString(out, figures.Row())
					err = errors.Join(err, figures.Err())
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// measure pairs rounds of the gate at n tokens with rounds of the plain proxy.
func measure(ctx context.Context, plain *gateway, upstream string, n int) (string, error) {
	gate, err := startGateway(ctx, "gate", upstream, n)
	if err != nil {
		return "", err
	}
	defer gate.stop()
	if err := gate.warm(ctx); err != nil {
		return "", err
	}
	var cpu, added, rate, p50, p99 []float64
	for i := range *rounds {
		// The order changes from round to round, so that neither is always second.
		pair := []*gateway{plain, gate}
		if i%2 == 1 {
			slices.Reverse(pair)
		}
		figures := map[*gateway]figure{}
		for _, g := range pair {
			f, err := g.load(ctx)
			if err != nil {
				return "", err
			}
			figures[g] = f
		}
		p, g := figures[plain], figures[gate]
		cpu = append(cpu, g.cpu/p.cpu)
		added = append(added, g.cpu-p.cpu)
		rate = append(rate, g.rate/p.rate)
		p50 = append(p50, g.p50/p.p50)
		p99 = append(p99, g.p99/p.p99)
	}
	resident, err := gate.resident()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("| %d | %s | %.1f µs | %s | %s | %s | %d MiB |",
		n, spread(cpu), median(added), spread(rate), spread(p50), spread(p99), resident>>20), nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// spread gives the median with the least and the greatest.
func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(v), slices.Min(v), slices.Max(v))
}

// startUpstream answers 200 bytes to everything.
func startUpstream() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	body := []byte(strings.Repeat("x", 199) + "\n")
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }),
	}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), nil
}

// gateway is one running program.
type gateway struct {
	dir     string
	addr    string
	cmd     *exec.Cmd
	secrets string // file of the secrets, one a line; empty: plain
	n       int
}

func startGateway(ctx context.Context, kind, upstream string, n int) (*gateway, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-*")
	if err != nil {
		return nil, err
	}
	g := &gateway{dir: dir, n: n}
	admin, err := fleet.FreeAddress()
	if err != nil {
		return nil, err
	}
	if g.addr, err = fleet.FreeAddress(); err != nil {
		return nil, err
	}
	config := "{\n\tadmin " + admin + "\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n"
	site := "http://" + g.addr + " {\n"
	if kind == "gate" {
		g.secrets = filepath.Join(dir, "secrets")
		if err := bulk.Fill(ctx, filepath.Join(dir, "sallyport.db"), g.secrets, n); err != nil {
			return nil, err
		}
		config += "\tsallyport {\n\t\tstore sqlite " + filepath.Join(dir, "sallyport.db") + "\n\t\tcache_size 1GiB\n\t}\n"
		site += "\tsallyport\n"
	}
	config += "}\n" + site + "\treverse_proxy " + upstream + "\n}\n"
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	g.cmd = exec.CommandContext(ctx, *binary, "run", "--config", file, "--adapter", "caddyfile")
	g.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	g.cmd.Stderr = os.Stderr
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	for range 600 {
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.addr); err == nil {
			_ = conn.Close()
			return g, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	g.stop()
	return nil, errors.New("the gateway did not start")
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Signal(os.Interrupt)
	_ = g.cmd.Wait()
	_ = os.RemoveAll(g.dir)
}

// warm sends one request with each token, so that the rounds measure the cache.
func (g *gateway) warm(ctx context.Context) error {
	f, err := os.Open(g.secrets)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 30 * time.Second}
	work := make(chan string, 1024)
	failed := make(chan error, 32)
	for range 32 {
		go func() {
			var first error
			for secret := range work {
				if first == nil {
					first = get(ctx, client, "http://"+g.addr+"/warm", secret)
				}
			}
			failed <- first
		}()
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		work <- lines.Text()
	}
	close(work)
	for range 32 {
		err = errors.Join(err, <-failed)
	}
	return errors.Join(err, lines.Err())
}

func get(ctx context.Context, client *http.Client, url, secret string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a good token got %s", resp.Status)
	}
	return nil
}

// figure is what one round gave: CPU time a request in µs, requests a second,
// latencies in ms.
type figure struct{ cpu, rate, p50, p99 float64 }

// script makes wrk walk through the secrets in a stride that visits them all in
// an order that caches do not like.
const script = `
local secrets = {}
for line in io.lines("%s") do secrets[#secrets + 1] = "Bearer " .. line end
local at, stride = 0, 7919
request = function()
  at = (at + stride) %% #secrets
  wrk.headers["Authorization"] = secrets[at + 1]
  return wrk.format(nil, "/v1/things")
end
`

var (
	requestsLine = regexp.MustCompile(`(\d+) requests in`)
	rateLine     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	p50Line      = regexp.MustCompile(`50%\s+([\d.]+)(us|ms|s)`)
	p99Line      = regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`)
	badLine      = regexp.MustCompile(`Non-2xx`)
)

func (g *gateway) load(ctx context.Context) (figure, error) {
	args := []string{"-t1", "-c" + strconv.Itoa(*clients), "-d" + strconv.Itoa(*seconds) + "s", "--latency"}
	if g.secrets != "" {
		lua := filepath.Join(g.dir, "wrk.lua")
		if err := os.WriteFile(lua, fmt.Appendf(nil, script, g.secrets), 0o600); err != nil {
			return figure{}, err
		}
		args = append(args, "-s", lua)
	}
	before, err := g.cpu()
	if err != nil {
		return figure{}, err
	}
	out, err := exec.CommandContext(ctx, "wrk", append(args, "http://"+g.addr+"/v1/things")...).CombinedOutput()
	if err != nil {
		return figure{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := g.cpu()
	if err != nil {
		return figure{}, err
	}
	if badLine.Match(out) {
		return figure{}, fmt.Errorf("some answers were not 2xx:\n%s", out)
	}
	requests := number(requestsLine, out)
	if requests == 0 {
		return figure{}, fmt.Errorf("wrk made no requests:\n%s", out)
	}
	return figure{
		cpu:  float64((after - before).Microseconds()) / requests,
		rate: number(rateLine, out),
		p50:  number(p50Line, out),
		p99:  number(p99Line, out),
	}, nil
}

// number reads a figure, in ms where it has a unit of time.
func number(re *regexp.Regexp, out []byte) float64 {
	m := re.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0
	}
	if len(m) > 2 {
		v *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(m[2])]
	}
	return v
}

// cpu is the processor time that the program has used, from the kernel's own books.
func (g *gateway) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in brackets and may hold spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is not as expected")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, err
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, nil
}

func (g *gateway) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("/proc/PID/statm is not as expected")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
