package api

import (
	"fmt"
	"reflect"
	"time"

	"github.com/sallyport/sallyport/authority"
)

// OTP is how it stands with a user's one-time codes.
type OTP struct {
	State         string     `json:"state" enum:"none,pending,enrolled" doc:"none: nothing is enrolled. pending: an enrolment waits for its first code. enrolled: codes can be given, also while another enrolment waits."`
	EnrolledAt    *time.Time `json:"enrolled_at" doc:"When the enrolment was confirmed (RFC 3339, UTC); null: never."`
	RecoveryCodes int        `json:"recovery_codes" doc:"How many recovery codes are left." example:"10"`
	LockedUntil   *time.Time `json:"locked_until" doc:"Until when no code is looked at after too many wrong ones (RFC 3339, UTC); null: any is."`
	NeedsReset    bool       `json:"needs_reset" doc:"Whether so many codes were wrong that only a reset helps."`
}

// Enrolment is what an authenticator app is given. It is shown once.
type Enrolment struct {
	URI    string    `json:"uri" doc:"The otpauth URI that the QR code says. It holds the secret." example:"(shown once)"`
	Secret string    `json:"secret" doc:"The secret for apps that take no picture." example:"(shown once)"`
	QR     []byte    `json:"qr_png" doc:"The QR code: PNG in base64."`
	Until  time.Time `json:"until" doc:"Until when the first code must be given (RFC 3339, UTC)."`
}

// FirstCode confirms an enrolment.
type FirstCode struct {
	_ struct{} `additionalProperties:"false"`

	OTP string `json:"otp" maxLength:"64" doc:"The present code of the app that was enrolled." example:"123456"`
}

// RecoveryCodes are what a user can give in place of a code of the app, each once.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes" nullable:"false" doc:"Each stands for one one-time code. They are shown in this response and never again."`
}

func otpOf(s *authority.OTPStatus) OTP {
	o := OTP{
		State: "none", EnrolledAt: timeOrNull(s.EnrolledAt), RecoveryCodes: s.RecoveryCodes,
		LockedUntil: timeOrNull(s.LockedUntil), NeedsReset: s.NeedsReset,
	}
	switch {
	case s.Enrolled:
		o.State = "enrolled"
	case s.Pending:
		o.State = "pending"
	}
	return o
}

// maxCode is longer than any code with what people put between its characters.
const maxCode = 64

var codeRule = fmt.Sprintf("must be a one-time code or a recovery code, of at most %d characters", maxCode)

// takeCode takes the one-time code out of a body that has a field for it: what a
// route does with its body, such as to compare it with an earlier one under the
// same Idempotency-Key, must not depend on a code that is another one each time.
func takeCode(in any) authority.OneTimeCode {
	body := reflect.ValueOf(in).Elem().FieldByName("Body")
	if body.Kind() == reflect.Pointer {
		body = body.Elem()
	}
	if body.Kind() != reflect.Struct {
		return ""
	}
	field := body.FieldByName("OTP")
	if field.Kind() != reflect.String || !field.CanSet() {
		return ""
	}
	code := field.String()
	field.SetString("")
	return authority.OneTimeCode(code)
}
