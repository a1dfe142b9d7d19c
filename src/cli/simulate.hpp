#pragma once

#include <string>
#include <vector>

#include "krul/simulate/scene.hpp"
#include "tool.hpp"

namespace krul::cli {

struct SimulateOptions {
  std::string hardware = "a100-pcie4";
  std::string geometry = "llama-7b";
  std::string link;   ///< overrides the hardware's: a rate, "fitted", or with costs "disk" or "memory"
  std::string costs;  ///< file of measured costs
  std::size_t tokens = 2000;
  std::size_t prompt = 128;
  std::string strategies;  ///< empty: all
  bool fit = false;
  double ratio = 0;  ///< recompute over load that is fitted; 0: the paper's
  std::vector<std::string> traces;
  std::vector<double> loads{0.05, 0.1, 0.2};
  double host_gb = 128;
  double device_gb = 0;  ///< 0: the accelerator's, less the weights
  bool map = false;
  std::string csv;
};

/// What the options describe.
struct Simulated {
  simulate::Scene scene;     ///< with their history and prompt
  std::string hardware;      ///< its name, or the file of costs
  double device_tokens = 0;  ///< room for K and V
};

void simulate_trace(const SimulateOptions& options, const Simulated& simulated, const Tool& tool);
void simulate_map(const SimulateOptions& options, const Simulated& simulated, const Tool& tool);

}  // namespace krul::cli
