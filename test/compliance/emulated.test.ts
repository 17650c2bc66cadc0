/** The emulated transport against the transport suite, in virtual time. */
import { emulatedMaker } from "./emulated-fixture.ts";
import { transportCompliance } from "./transport.ts";

transportCompliance(emulatedMaker());
