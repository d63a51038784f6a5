// What the report's pages use of NiiVue; everything else can be left out by the bundler.
import { Niivue, NVImage, NVMesh } from "@niivue/niivue";

globalThis.niivue = { Niivue, NVImage, NVMesh };
