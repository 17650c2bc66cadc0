/* Stand-in for FlexIO's header of this name: see flexio.h here. */
#ifndef SDR_STANDIN_FLEXIO_VER_H
#define SDR_STANDIN_FLEXIO_VER_H

#define FLEXIO_VER(major, minor, patch) (((major) << 24) | ((minor) << 16) | (patch))

#endif
