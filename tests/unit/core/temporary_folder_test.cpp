#include "krul/core/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "krul/core/private_folders.hpp"
#include "support/temporary_directory.hpp"

namespace {
using krul::ErrorCode;
using krul::make_private_folders;
using krul::TemporaryFolder;

mode_t mode_of_folder(const std::filesystem::path& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

std::size_t entries(const std::filesystem::path& path) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
}

TEST_CASE("a temporary folder is its user's alone and goes with what is in it") {
  const krul::test::TemporaryDirectory place;
  {
    const auto folder = TemporaryFolder::make(place.path() / "a" / "b");
    REQUIRE(folder);
    CHECK(mode_of_folder(folder->path()) == 0700);
    CHECK(mode_of_folder(place.path() / "a" / "b") == 0700);
    std::ofstream(folder->path() / "file") << "x";
    TemporaryFolder::sweep(place.path() / "a" / "b");  // it is in use
    CHECK(std::filesystem::exists(folder->path() / "file"));
  }
  CHECK(entries(place.path() / "a" / "b") == 0);
}

TEST_CASE("what a killed process has left goes when the next folder is made, and nothing else does") {
  const krul::test::TemporaryDirectory place;
  std::filesystem::create_directory(place.path() / "mine");
  if (const pid_t child = ::fork(); child == 0) {
    const auto folder = TemporaryFolder::make(place.path());
    std::ofstream(folder->path() / "file") << "x";
    ::_exit(0);  // without any destructor, as when killed
  } else {
    ::waitpid(child, nullptr, 0);
  }
  CHECK(entries(place.path()) == 2);
  const auto folder = TemporaryFolder::make(place.path());
  REQUIRE(folder);
  CHECK(entries(place.path()) == 2);
  CHECK(std::filesystem::exists(place.path() / "mine"));
}

TEST_CASE("sweeping where nothing is does nothing") {
  const krul::test::TemporaryDirectory place;
  TemporaryFolder::sweep(place.path() / "nowhere");
  CHECK(entries(place.path()) == 0);
}

TEST_CASE("a folder that cannot be made is refused by its name") {
  const krul::test::TemporaryDirectory place;
  std::ofstream(place.path() / "file") << "x";
  const auto folder = TemporaryFolder::make(place.path() / "file" / "below");
  REQUIRE_FALSE(folder);
  CHECK(folder.error().code == ErrorCode::io);
  CHECK(folder.error().message.find("file") != std::string::npos);
  CHECK_FALSE(TemporaryFolder::make(place.path() / "file"));
}

TEST_CASE("private folders leave those that are there as they are") {
  const krul::test::TemporaryDirectory place;
  std::filesystem::create_directory(place.path() / "open");
  ::chmod((place.path() / "open").c_str(), 0755);
  REQUIRE(make_private_folders(place.path() / "open" / "a" / "b/"));
  CHECK(mode_of_folder(place.path() / "open") == 0755);
  CHECK(mode_of_folder(place.path() / "open" / "a") == 0700);
  CHECK(mode_of_folder(place.path() / "open" / "a" / "b") == 0700);
}

}  // namespace
