package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func tokenVerify(in *invocation, parent *cobra.Command) {
	var q api.Question
	cmd := in.client(parent, "verify", "Says what the gate would say to a secret, which it reads from standard input", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		secret, err := in.readSecret()
		if err != nil {
			return err
		}
		q.Secret = api.Secret(secret)
		v, err := c.VerifyToken(ctx, q)
		if err != nil {
			return err
		}
		if err := in.printVerification(&v); err != nil {
			return err
		}
		if !v.Valid {
			return fmt.Errorf("the gate would refuse it: %s", v.Code)
		}
		return nil
	})
	cmd.Long = `Says what the gate would say to a request with a secret. Being asked about is not
use. The secret is read from standard input, or asked for in a terminal: an
argument would show in the list of processes and in the shell's history.

The exit code is 0 when the gate would let the request pass, else 1.`
	flags := cmd.Flags()
	flags.StringVar(&q.IP, "ip", "", "the client's address; without it, a token with an allow-list is refused")
	flags.StringVar(&q.Method, "method", "GET", "the request's method")
	flags.StringVar(&q.Scope, "scope", "", "the scope that the operation requires; by default read or write, by method")
}

// readSecret reads a secret without showing it.
func (in *invocation) readSecret() (string, error) {
	if file, ok := in.InOrStdin().(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(in.ErrOrStderr(), "Secret: ")
		text, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(in.ErrOrStderr())
		return strings.TrimSpace(string(text)), err
	}
	// One byte more than the longest shows that it is too long; the line's end
	// is no part of it.
	text, err := io.ReadAll(io.LimitReader(in.InOrStdin(), token.MaxSecretLength+3))
	if err != nil {
		return "", fmt.Errorf("read the secret from standard input: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", errors.New("no secret on standard input: pipe it in, as in `sallyport token verify < secret.txt`")
	}
	return secret, nil
}

func (in *invocation) printVerification(v *api.Verification) error {
	switch {
	case in.output == outputJSON:
		return in.printJSON(v)
	case in.quiet:
		return nil
	}
	fields := [][2]string{{"valid", showYes(v.Valid)}}
	if v.Code != "" {
		fields = append(fields, [2]string{"code", v.Code})
	}
	fields = append(fields, [2]string{"required scope", v.RequiredScope})
	if v.Token != nil {
		fields = append(fields, [2]string{"token", string(v.Token.ID)}, [2]string{"name", v.Token.Name}, [2]string{"state", v.Token.State.String()})
	}
	in.printRecord(fields)
	return nil
}
