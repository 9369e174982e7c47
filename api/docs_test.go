package api_test

import (
	"bytes"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

func TestTheCurlLinesOfTheDocsWorkAsPrinted(t *testing.T) {
	for _, program := range []string{"sh", "curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	g := newGateway(t)
	server := httptest.NewServer(g.handler)
	defer server.Close()
	const printed = "API=http://localhost:2019/sallyport/v1\n"
	script := string(api.Examples(t))
	require.Contains(t, script, printed)
	script = strings.Replace(script, printed, "API="+server.URL+base+"\n", 1)

	shell := exec.CommandContext(t.Context(), "sh")
	shell.Dir = t.TempDir()
	shell.Stdin = strings.NewReader(script)
	var out, errs bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &errs
	require.NoError(t, shell.Run(), "%s%s", out.String(), errs.String())
	require.Contains(t, out.String(), `"valid":true`)
	require.Contains(t, out.String(), `"code":"read_only_token"`)
	require.Contains(t, out.String(), `"state":"deleted"`)
	require.Empty(t, errs.String())
}
