/* SDR memory regions: what sends read and receives write. Rules of return values and threads: sdr.h. */
#ifndef SDR_MR_H
#define SDR_MR_H

#include <stddef.h>
#include <stdint.h>

#include "sdr.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sdr_access_flags { SDR_ACCESS_REMOTE_WRITE = 0 };

struct sdr_mr;

/* sdr_mr_reg - register memory
 * addr, length: the caller's, 1 byte or more; it must stay valid until sdr_mr_dereg has returned SDR_SUCCESS.
 * RESULT: a region for sdr_mr_dereg, or NULL. ERRORS: INVALID_ARGUMENT. */
SDR_API struct sdr_mr *sdr_mr_reg(struct sdr_context *sdr_ctx, void *addr, size_t length, enum sdr_access_flags access);

/* sdr_mr_dereg - let memory go
 * Waits, 10 s at most, for packets that are still on their way out of it. On SDR_SUCCESS nothing of the library reads
 * or writes it any more.
 * ERRORS: BUSY (SDR_ERROR all the same): a posted receive or a send not injected yet uses it; it stays registered. */
SDR_API int sdr_mr_dereg(struct sdr_mr *mr);

/* sdr_mr_lkey_get - the key by which work requests name the region; good in its own context only */
SDR_API int sdr_mr_lkey_get(struct sdr_mr *mr, uint32_t *lkey);

/* sdr_mr_rkey_get - the region's remote key; no call takes one, as no address is exchanged a message (section 3) */
SDR_API int sdr_mr_rkey_get(struct sdr_mr *mr, uint32_t *rkey);

#ifdef __cplusplus
}
#endif
#endif
