#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "krul/core/resource.hpp"

namespace krul {

/// What the link takes: seconds = requests * latency_s + bytes / bytes_per_s. Where requests wait side by side, as
/// those to a distant store do, latency_s is what one adds to those before it.
struct LinkCosts {
  double latency_s = 0;        ///< per request, >= 0
  double bytes_per_s = 1e9;    ///< > 0
  double core_s_per_byte = 0;  ///< time a read takes away from the cores (copying, checksums, interruptions)
  double open_s = 0;           ///< that opening takes longer than from memory: its round trips
};

/// What copying to a device takes: seconds = copies * latency_s + bytes / bytes_per_s. One copy for each read.
struct CopyCosts {
  double latency_s = 0;         ///< per copy, >= 0
  double bytes_per_s = 1e10;    ///< > 0
  std::uint64_t row_bytes = 0;  ///< K and V of a token in one layer as the cache holds them: what a decoded row copies
};

/// Who does what. A device that computes holds the cache: what is loaded is copied to it, as it was read if the device
/// decodes, as rows otherwise.
struct Placement {
  Resource compute = Resource::cores;  ///< or device: project, attend, finish, and what happens once a pass
  Resource decode = Resource::cores;   ///< or device, if that computes
};

/// What one layer takes where it is computed, measured on this machine with this model: seconds, >= 0.
struct LayerCosts {
  double call_s = 0;         ///< per layer and pass, whatever the rows
  double project_row_s = 0;  ///< per row that is projected (norm, Q, K, V, rotary)
  double finish_row_s = 0;   ///< per row that is finished (output projection, MLP)
  double attend_pair_s = 0;  ///< per pair of a row and a key it sees
  double attend_key_s = 0;   ///< per key that some row sees: bringing it to the cores, however many rows there are
  double decode_row_s = 0;   ///< per stored row that is decoded (K and V)
  double joint_row_s = 0;    ///< the same where a profile coded it
};

/// All that a planner knows about a machine and a model. Every layer costs the same in the models krul runs.
struct Costs {
  LinkCosts link;
  LayerCosts layer;
  double pass_s = 0;           ///< embedding, logits of one row and all else that happens once a pass
  double open_s = 0;           ///< once before the pass: finding what is saved, planning, room for the rows
  double open_s_per_byte = 0;  ///< per byte of the manifest: reading it into memory, parsing, planning with it
  CopyCosts copy = {};         ///< counts where a device computes
  Placement on = {};
};

}  // namespace krul
