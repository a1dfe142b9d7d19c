#pragma once

#include <cstddef>
#include <vector>

namespace krul::simulate {

/// Seconds that a prefill takes alone.
struct PrefillTimes {
  double link_s = 0;         ///< busy time of the link
  double cores_s = 0;        ///< busy time of the compute
  double first_token_s = 0;  ///< >= both
};

/// One request, as the server sees it.
struct Job {
  double at_s = 0;
  std::size_t conversation = 0;
  bool has_history = false;
  bool saved = false;       ///< its history lies in host memory although the server never saw it
  PrefillTimes restored;    ///< if its history lies in host memory
  PrefillTimes recomputed;  ///< if not
  std::size_t tokens = 0;   ///< in device memory from its admission to its end
  std::size_t output = 1;   ///< >= 1; the prefill gives the first
  double stored_bytes = 0;  ///< in host memory once it has ended
};

/// A machine with one compute resource and one link.
struct Server {
  double device_tokens = 0;   ///< tokens whose K and V fit into device memory
  double host_bytes = 0;      ///< of saved conversations
  double decode_step_s = 0;   ///< one token for every running request, however many and long
  double decode_row_s = 0;    ///< more for each running request
  double decode_token_s = 0;  ///< more for each token that a running request has in device memory
};

/// What became of the jobs.
struct Replay {
  std::vector<double> wait_s;   ///< [jobs] to the first token, from the arrival or the end of the turn before
  std::vector<double> ended_s;  ///< [jobs] when the last token was there. Both NaN: refused, larger than the device
  double compute_s = 0;         ///< busy with prefills and decode steps
  double link_s = 0;            ///< busy with reads
  std::size_t restored = 0;     ///< histories found in host memory
  std::size_t lost = 0;         ///< histories recomputed because host memory had lost them
};

}  // namespace krul::simulate
