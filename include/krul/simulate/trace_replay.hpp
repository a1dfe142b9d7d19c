#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/simulate/job.hpp"
#include "krul/simulate/scene.hpp"
#include "krul/simulate/strategies.hpp"
#include "krul/simulate/trace.hpp"

namespace krul::simulate {

/// Room for K and V, and for saved conversations.
struct ServerMemory {
  double device_tokens = 0;
  double host_bytes = 0;
};

/// A scene's machine as a server. A decode step prices a layer's call, and each running request's row and keys.
/// @source ours
[[nodiscard]] Server server_of(const Scene& scene, const ServerMemory& memory);

/// The arrivals of a trace as jobs under one strategy, each restored by itself.
/// @param base  the machine and the model; its history and prompt do not count
/// @complexity two predictions an arrival, and one for each thousand tokens that a conversation reaches
[[nodiscard]] std::vector<Job> jobs_of(std::span<const Arrival> arrivals, const Scene& base,
                                       const SimulatedStrategy& strategy);

/// Below 1: that share of the conversations, spread evenly over their numbers, with their own pauses. Above 1: all of
/// them, so many times as fast.
/// @return may be empty
[[nodiscard]] std::vector<Job> at_load(std::span<const Job> jobs, double load);

/// What a server made of its jobs.
struct Served {
  std::vector<double> wait_s;                ///< [completed] to the first token
  std::vector<double> returning_wait_s;      ///< those of jobs with a history
  std::size_t refused = 0;                   ///< larger than the device
  std::size_t restored = 0, lost = 0;        ///< histories that host memory had, and had lost
  double requests_per_s = 0;                 ///< that ended while others still came; behind that the queue only drains
  double compute_share = 0, link_share = 0;  ///< busy, of the time until the last one ended
};

/// Replays jobs on a server.
/// @return too_large if no job fits the device
/// @throws PreconditionError as replay, and if there is no job
[[nodiscard]] Result<Served> serve(std::span<const Job> jobs, const Server& server);

}  // namespace krul::simulate
