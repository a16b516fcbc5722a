if __name__ != "ovmer.conf":
    raise ImportError("this package is imported as ovmer.conf; install the project to use it")
