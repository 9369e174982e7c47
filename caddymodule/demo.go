package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/internal/demo"
	"github.com/sallyport/sallyport/token"
)

const demoHelp = `Starts the gate on a database of its own, in front of a sample API that it also
serves; makes an account, its owner and three tokens; and prints commands to paste
into another terminal, each with the answer to expect.

With --lifecycle it shows a life in a minute instead: a policy whose windows are
seconds, five tokens that are used, half used and not used, and a mailbox. What
happens to them is told as it happens; then the demo ends by itself.

Everything is kept in one folder, which is removed in the end, unless --keep is
given; then --lifecycle goes on until Ctrl-C as well. Nothing of it listens on
anything but this machine.`

// Where the demo listens unless told otherwise, if it is free there.
const (
	demoListen = "127.0.0.1:8080"
	demoAdmin  = "localhost:2019"
)

// demoEventInterval is how often the sample API's stream sends something.
const demoEventInterval = time.Second

func demoCommand(cmd *cobra.Command) {
	var o demoOptions
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVar(&o.dir, "dir", "", "the folder to keep everything in; by default, a new one for temporary files")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave the folder behind; with --lifecycle, go on until Ctrl-C")
	cmd.Flags().BoolVar(&o.lifecycle, "lifecycle", false, "show how tokens look after themselves, in less than a minute")
	cmd.Flags().BoolVar(&o.mails, "mails", false, "with --lifecycle, print every mail in full")
	cmd.Flags().StringVar(&o.listen, "listen", "", "the address of the gate (default "+demoListen+", or a free port)")
	cmd.Flags().StringVar(&o.admin, "admin", "", "the address of the admin endpoint (default "+demoAdmin+", or a free port)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		o.program = programName(cmd)
		if o.mails && !o.lifecycle {
			return errors.New("--mails needs --lifecycle: no mail is sent without it")
		}
		return inWords(runDemo(ctx, o, cmd.OutOrStdout()))
	}
}

type demoOptions struct {
	dir, listen, admin     string
	keep, lifecycle, mails bool
	program                string // how to call the commands
}

// programName is how this program was called, so that the commands that are
// printed can be pasted.
func programName(cmd *cobra.Command) string {
	name := shellQuote(os.Args[0])
	if strings.Contains(os.Args[0], "go-build") {
		name = "go run ./cmd/sallyport" // where `go run` leaves its program is gone afterwards
	}
	if cmd.HasParent() && cmd.Parent().HasParent() {
		name += " " + cmd.Parent().Name() // caddy sallyport
	}
	return name
}

// shellQuote quotes a word for a POSIX shell, if it needs that.
func shellQuote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:@%+,=", r))
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// runDemo runs until the context ends, or the life is over, and leaves nothing
// behind.
func runDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	d := &demonstration{options: o}
	defer func() { err = errors.Join(err, d.close()) }()
	steps := []func(context.Context) error{d.makeFolder, d.serveAPI, d.startGate, d.introduce, d.populate}
	if o.lifecycle {
		steps = []func(context.Context) error{d.makeFolder, d.serveAPI, d.openMailbox, d.startGate, d.introduce}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if o.lifecycle {
		return d.live(ctx, out)
	}
	if _, err := io.WriteString(out, d.story()); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(out)
	return nil
}

// demonstration is a running demo, with what has to be undone after it.
type demonstration struct {
	options demoOptions
	undo    []func() error

	dir, gate, admin, upstream string

	mailbox         *demo.Mailbox // nil: nobody is told of anything
	relay, mailPage string

	client                      *api.Client
	account                     api.Account
	owner                       api.User
	readOnly, readWrite, custom api.Issued
	wrong                       token.Secret
}

// close undoes what was done, the last first.
func (d *demonstration) close() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	d.undo = nil
	return errors.Join(errs...)
}

// makeFolder makes the folder, and sees to it that only a folder that is the
// demo's own is removed.
func (d *demonstration) makeFolder(context.Context) error {
	dir, err := d.newFolder()
	if err != nil {
		return err
	}
	d.dir = dir
	if !d.options.keep {
		d.undo = append(d.undo, func() error { return os.RemoveAll(dir) })
	}
	// What Caddy keeps of its own accord belongs into the folder too.
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, filepath.Join(dir, "caddy")); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) newFolder() (string, error) {
	if d.options.dir == "" {
		return os.MkdirTemp("", "sallyport-demo-")
	}
	dir, err := filepath.Abs(d.options.dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 && !d.options.keep {
		err = errors.New("the folder of --dir is not empty, and the demo would remove it: name another one, or add --keep")
	}
	return dir, err
}

// serveAPI serves the sample API where only this machine reaches it.
func (d *demonstration) serveAPI(context.Context) error {
	var err error
	if d.upstream, err = d.serve(demo.New(time.Now, demoEventInterval)); err != nil {
		return fmt.Errorf("the sample API: %w", err)
	}
	return nil
}

// listenHere listens on a free port of this machine.
func listenHere() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// serve serves on a free port of this machine, and gives the address.
func (d *demonstration) serve(handler http.Handler) (address string, err error) {
	listener, err := listenHere()
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends by Close
	}()
	d.undo = append(d.undo, func() error {
		err := server.Close()
		<-done
		return err
	})
	return listener.Addr().String(), nil
}

// startGate writes the Caddyfile and runs Caddy with it, as `run` would.
func (d *demonstration) startGate(context.Context) error {
	var err error
	if d.gate, err = demoAddress("--listen", d.options.listen, demoListen); err != nil {
		return err
	}
	if d.admin, err = demoAddress("--admin", d.options.admin, demoAdmin); err != nil {
		return err
	}
	text := d.caddyfile()
	file := d.file("Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": file})
	if err != nil {
		return err
	}
	caddy.BufferedLog() // until the log file of the configuration is open
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	d.undo = append(d.undo, func() error {
		err := caddy.Stop()
		lingering.finish()
		return err
	})
	return nil
}

func (d *demonstration) file(name string) string { return filepath.Join(d.dir, name) }

// demoAddress settles on an address that is free now. One that was asked for is
// taken or refused; for the default, any other port will do.
func demoAddress(flag, asked, usual string) (string, error) {
	if asked == "" {
		if isFree(usual) {
			return usual, nil
		}
		listener, err := listenHere()
		if err != nil {
			return "", err
		}
		return listener.Addr().String(), listener.Close()
	}
	host, _, err := net.SplitHostPort(asked)
	if err != nil {
		return "", fmt.Errorf("%s takes an address such as %s", flag, usual)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("%s: the demo listens on this machine only, on an address such as %s", flag, usual)
	}
	if !isFree(asked) {
		return "", fmt.Errorf("%s: another program listens there already", flag)
	}
	return asked, nil
}

// isFree asks in the plain way: Caddy shares the ports that it listens on, also
// with another Caddy.
func isFree(address string) bool {
	listener, err := net.Listen("tcp", address)
	return err == nil && listener.Close() == nil
}

// introduce makes the account and its owner, through the admin endpoint as any
// operator would.
func (d *demonstration) introduce(ctx context.Context) error {
	base, hc, err := adminClient(d.admin)
	if err != nil {
		return err
	}
	d.undo = append(d.undo, func() error { hc.CloseIdleConnections(); return nil })
	if d.client, err = api.NewClient(base, hc); err != nil {
		return err
	}
	d.client.Operator = "demo"
	if d.account, err = d.client.CreateAccount(ctx, api.NewAccount{Name: "Example Ltd"}); err != nil {
		return err
	}
	d.owner, err = d.client.CreateUser(ctx, api.NewUser{AccountID: d.account.ID, Name: "Ada Example", Email: "ada@example.com", Role: "owner"})
	return err
}

// issue makes a token of the account.
func (d *demonstration) issue(ctx context.Context, ask api.NewToken) (api.Issued, error) {
	ask.AccountID = d.account.ID
	return d.client.CreateToken(ctx, rand.Text(), ask)
}

// thisMachine is the allow-list that a token needs to be able to write.
func thisMachine() []string { return []string{"127.0.0.1", "::1"} }

// populate makes the tokens to play with.
func (d *demonstration) populate(ctx context.Context) (err error) {
	for _, n := range []struct {
		issued *api.Issued
		ask    api.NewToken
	}{
		{&d.readOnly, api.NewToken{Name: "reports", Access: token.ReadOnly}},
		{&d.readWrite, api.NewToken{Name: "checkout", UserID: d.owner.ID, Access: token.ReadWrite, IPAllowlist: thisMachine()}},
		{&d.custom, api.NewToken{Name: "reconciliation", Access: token.Custom, Scopes: []string{"payments:read"}}},
	} {
		if *n.issued, err = d.issue(ctx, n.ask); err != nil {
			return err
		}
	}
	d.wrong, err = token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
	return err
}
