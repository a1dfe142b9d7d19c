#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

#include "krul/core/finite.hpp"
#include "krul/core/version.hpp"
#include "revision.hpp"
#include "verbs.hpp"

int main(int argc, char** argv) {
  using namespace krul::cli;
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond its limit is a write that fails, and says so
  Tool tool;
  CLI::App program{"krul: fast state restoration for multi-turn conversations"};
  program.set_version_flag("--version",
                           std::string(krul::krul_version) + " (" + std::string(krul::cli::revision()) + ")");
  program.add_flag("--json", tool.json, "one JSON object on standard output, nothing else there");
  program.fallthrough();
  program.require_subcommand(1);
  for (const auto add :
       {add_chat, add_generate, add_score, add_calibrate, add_evaluate, add_bench, add_demo, add_simulate, add_saved})
    add(program, tool);
  const auto report = [&](const krul::Error& error) {
    tool.say("krul: " + error.message);
    if (tool.json) tool.print({{"error", {{"code", krul::name(error.code)}, {"message", error.message}}}});
  };
  try {
    program.parse(argc, argv);
    tool.end_progress();
    return 0;
  } catch (const CLI::ParseError& error) {
    return program.exit(error);
  } catch (const Failure& failure) {
    report(failure.error);
  } catch (const krul::NotFiniteError& error) {
    report({krul::ErrorCode::backend, error.what()});
  } catch (const std::bad_alloc&) {
    tool.say("krul: out of memory; use a shorter conversation or a smaller model");
  } catch (const std::exception& error) {
    tool.say(std::string("krul: internal error: ") + error.what());
  }
  return 1;
}
