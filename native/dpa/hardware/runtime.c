/* What the engine asks of whoever links it, on a device: a thread of the DPA has its unit to itself, so a wait is a
 * wait. Compiled by dpacc only (cmake/dpa.cmake). */
#include "engine/rx.h"

void sdr_rx_relax(uint32_t spins) { (void)spins; }
