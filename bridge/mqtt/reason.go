package mqtt

import (
	"errors"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// reasonOf is the MQTT 5 reason code for an error of the log, the router or the codec.
func reasonOf(err error) packet.Reason {
	var pe *packet.Error
	switch {
	case err == nil:
		return packet.Success
	case errors.As(err, &pe):
		return pe.Reason
	case errors.Is(err, record.ErrDiskFull): // it passes
		return packet.QuotaExceeded
	case errors.Is(err, record.ErrTooLarge): // it does not, and a PUBACK cannot say packet too large
		return packet.ImplementationSpecificError
	case errors.Is(err, record.ErrInvalidRecord):
		return packet.PayloadFormatInvalid
	}
	return packet.UnspecifiedError
}

// ackReason is reasonOf for a PUBACK, which knows only some codes (table 3-4).
func ackReason(err error) packet.Reason {
	switch r := reasonOf(err); r {
	case packet.Success, packet.UnspecifiedError, packet.ImplementationSpecificError, packet.NotAuthorized, packet.TopicNameInvalid,
		packet.QuotaExceeded, packet.PayloadFormatInvalid:
		return r
	}
	return packet.UnspecifiedError
}
