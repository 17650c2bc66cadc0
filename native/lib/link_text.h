// A link's impairments from their tc-netem(8) text: the terms that sdr_ext.h lists.
#pragma once

#include <string>

#include "sdr/link.h"

namespace sdr::lib {

// Throws Failure INVALID_ARGUMENT, naming the term.
LinkConfig parse_link(const std::string& text);

}  // namespace sdr::lib
